package main

// keys is every key of server.toml, for who has the program and not its sources. The
// type rendezvous.Config says more of each.
const keys = `Keys of server.toml, of which name and url have to be there:

  name = "main"                   in the roster and the log's origin, a-z, 0-9, "." and "-"; a team keeps its first
  url = "https://rv.example.com"  the one address that operators and agents reach this server under
  listen = ":443"                 of API and control channel; TLS ends in this process
  database = "sqlite:PATH"        or "postgres://..."; without it tucdesk.db in the state folder

  [relay]                         of this process, unless relay.external names others
  listen = ":3478"                UDP and TCP
  secure = ":5349"                TLS and DTLS; "off" is none
  public = "HOST:PORT"            as endpoints reach it; without it the host of url, the port of listen
  secret = "FILE"                 shared with the relays; without it relay.secret in the state folder
  lifetime = 3600                 seconds that a relay credential lives, 60 to 3600

  [[relay.external]]              once for each relay that runs elsewhere, the preferred one first
  udp = "HOST:PORT"               or tcp, tls, dtls, websocket: one at least
  key = "64 hex digits"           of tucdesk-relay pin; for tls, dtls and websocket`
