// Package filecopy is what the two ends of a copy say to each other: a sender, which
// reads files, and a receiver, which writes them. Each of them runs at the operator
// or at a machine; between two machines the operator passes messages on.
//
// The bytes travel on the streams of one channel whose subsystem is Subsystem
// (protocol 2.7, "Files"). They are sealed there, so nothing here keeps a third party
// out. What is here keeps one end from harming the other: neither trusts what the
// other says, and every file is compared as a whole before it gets its name.
//
// # Messages
//
// A message is a length (4 bytes: type and body, at most 160 KiB), a type (1) and a
// body. Numbers are big-endian, a string has a length of 2 bytes, and "rest" is what
// is left. Times are nanoseconds since 1970, modes are permission bits with 0o4000,
// 0o2000 and 0o1000 for setuid, setgid and sticky.
//
//	type  message   from      body
//	  1   get       operator  flags u32, count u16, paths: the machine is the sender
//	  2   put       operator  flags u32, path: the machine is the receiver
//	  3   ready     machine   -
//	  4   refused   both      code, text: the copy ends
//	 10   folder    sender    mode u32, time u64, name
//	 11   link      sender    name, target
//	 12   small     sender    mode u32, time u64, SHA-256 (32), name, contents (rest)
//	 13   offer     sender    id u32, flags u8, mode u32, time u64, size u64, allocated u64, name
//	 14   begin     sender    id u32: what follows is of that offer
//	 15   data      sender    offset u64, bytes (rest, 1 to 128 KiB)
//	 16   zeros     sender    offset u64, length u64: holes at the receiver
//	 17   keep      sender    first u32, count u32: these blocks are right as you have them
//	 18   close     sender    size u64, digest (32)
//	 19   abandon   sender    -: the file that was begun cannot be had
//	 20   total     sender    files u64, bytes u64: what there is to copy
//	 21   end       sender    -
//	 30   want      receiver  id u32, more u8, hashes (rest, 32 each): what is there already
//	 31   decline   receiver  id u32: this file is not wanted, or not any more
//	 32   finished  receiver  files u64, folders u64, bytes u64, kept u64
//	 40   problem   both      name, code, text: something that is left out
//
// Flags of get and put: 1 recursive, 2 preserve, 4 special bits, 8 into a folder,
// 16 count first. Flags of an offer: 1 sparse, 2 of unknown size.
//
// The order is get or put, ready, then from the sender folder, link, small and offer
// in the order of its tree. An offer is answered by want or decline, at any time, and
// the sender begins the file when it has read all of its want. From begin to close
// or abandon there is nothing but that file. At most MaxOffers are open at once.
// After end comes finished. A copy has at most MaxEntries folders, links and files;
// links, and with preserve folders, of MaxHeld bytes in all.
//
// # Blocks
//
// A file is cut into blocks of BlockSize(size) bytes. The receiver hashes what an
// earlier copy left behind and sends the SHA-256 of each whole block; the sender
// hashes its own file and sends only blocks that differ. The digest over a file is
//
//	SHA-256("tucdesk-copy-v1" ‖ 0x00 ‖ size u64 ‖ SHA-256(SHA-256 of each block, in order))
//
// and the receiver computes it from what it has, kept blocks among it. A file whose
// digest is another one is thrown away together with what was kept (attack I8).
//
// Worked example: the folder "a", mode 0755, at time 0 is
// 00000010 0a 000001ed 0000000000000000 0001 61.
//
// # Names
//
// A name is relative and has "/" between its elements; see CheckName. The first
// element is one that was asked for, else a machine could put a .bashrc beside what
// it was asked for. Without the flag recursive there are small and offer alone, and no
// name has a "/"; with it an entry below a folder comes after that folder. Else a name
// could lead into any folder that lies at the target already; see Gate (attack I6).
// Links come last, point into their own tree, and are never written through.
package filecopy
