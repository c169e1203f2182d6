package operator

// expectKeys are the keys of [[expect]], for the help of policy test.
const expectKeys = `Keys of [[expect]]; name, action, role and want have to be there, what is not written is empty:

  name     in a few words, what is expected
  action   what is asked for: shell, exec, copy-read, copy-write, forward-local, forward-remote, ...
  role     of who asks: owner, admin, operator or viewer; email, person and key are theirs, too,
           as the roster has them
  agent    name of the machine, and tags, a list: its tags. Neither is looked up
  user     login user there; not written, or "@agent", the one that the agent runs as
  argv     of exec: the list of the program, by its absolute path, and its arguments
  cwd      folder to start in, and env, a list: names of the variables asked for
  target   of forward-local and forward-remote: HOST:PORT, or the path of a socket. Other actions
           have none: whether a file may be copied is asked with policy explain HOST copy-read PATH
  at       the time, as "2026-03-02T12:00:00+01:00"; needed where a rule has hours
  want     "allow", "approval" or "deny"
  rule     id of the rule that has to decide it; not written, any

  [[expect]]
  name = "operators read logs on web machines"
  action = "exec"
  role = "operator"
  tags = ["web"]
  argv = ["/usr/bin/journalctl", "-n", "100"]
  want = "allow"`

// ruleKeys are the keys of [[allow]] and [[block]], for the help of policy check.
const ruleKeys = `Keys of [[allow]] and [[block]]; all that are written have to hold, of a list one element:

  id, description      a name of its own, and a sentence for people
  who.roles            owner, admin, operator, viewer; who.emails, who.people and who.keys as in the roster
  where.tags_any       tags of which the machine has one; where.tags_all: all of them; where.agents: names
  actions              shell, exec, copy (copy-read, copy-write), forward (forward-local, forward-remote),
                       forward-agent, background, ping
  users                login users, "@agent" for the one that the agent runs as
  commands             of exec: lists of a program and its arguments; "..." at the end for any further ones
  cwd, targets, roots  folders to start in; of forwards HOST:PORT, HOST:* or a socket; folders of copies
  when                 days, from, to, zone
  approval             count, roles: who has to agree
  limits               session, idle, resume: at most so long

Of the file: version, mode, roster_grace, environment.allow, [limits], [gate] with where and approval as
above, and [[expect]], whose keys policy test --help lists.`
