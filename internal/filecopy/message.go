package filecopy

import (
	"encoding/binary"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Subsystem is the name of the subsystem that speaks this protocol.
const Subsystem = "copy@tucdesk"

// Limits of messages; our choice. Small and one piece of data fit in a message.
const (
	MaxData    = 128 << 10 // bytes in one data message, and the longest small file
	MaxName    = 4096      // bytes of a name or path
	MaxText    = 512       // bytes of a text for people
	MaxPaths   = 256       // of one get
	MaxHashes  = 4096      // in one want
	MaxOffers  = 16        // without an answer, or not begun
	MaxEntries = 4_000_000 // files, folders and links of one copy
	MaxHeld    = 256 << 20 // bytes of links, and with Preserve of folders, which wait in memory for the end of a copy

	maxMessage = 160 << 10
)

// HashSize is the size of every hash, in bytes.
const HashSize = 32

// Flags say how to copy; in get and put.
type Flags uint32

// The flags of get and put.
const (
	Recursive Flags = 1 << iota // folders with what is in them
	Preserve                    // times and modes
	Special                     // with Preserve: setuid, setgid and sticky as well
	Into                        // the target has to be a folder
	Count                       // the sender says total as soon as it knows

	allFlags = 1<<iota - 1
)

// OfferFlags say what kind of file is offered.
type OfferFlags uint8

// The flags of an offer.
const (
	Sparse  OfferFlags = 1 << iota // has holes, which should stay holes
	Unsized                        // a stream: size is 0 and told by close

	allOfferFlags = 1<<iota - 1
)

// Message is one of the types below.
type Message interface {
	kind() kind
	append([]byte) []byte
}

type kind byte

const (
	kindGet kind = 1 + iota
	kindPut
	kindReady
	kindRefused
)

const (
	kindFolder kind = 10 + iota
	kindLink
	kindSmall
	kindOffer
	kindBegin
	kindData
	kindZeros
	kindKeep
	kindClose
	kindAbandon
	kindTotal
	kindEnd
)

const (
	kindWant kind = 30 + iota
	kindDecline
	kindFinished

	kindProblem kind = 40
)

// The messages, with the fields of the table in the package comment. Slices of a
// message that was read are valid until the next one is.
type (
	Get struct {
		Flags Flags
		Paths []string
	}
	Put struct {
		Flags Flags
		Path  string
	}
	Ready   struct{}
	Refused struct {
		Code refusal.Code
		Text string
	}
	Folder struct {
		Mode uint32
		Time int64
		Name string
	}
	Link struct {
		Name, Target string
	}
	Small struct {
		Mode uint32
		Time int64
		Hash [HashSize]byte
		Name string
		Data []byte
	}
	Offer struct {
		ID        uint32
		Flags     OfferFlags
		Mode      uint32
		Time      int64
		Size      uint64
		Allocated uint64 // bytes that it takes on the sender's disk
		Name      string
	}
	Begin struct{ ID uint32 }
	Data  struct {
		Offset uint64
		Bytes  []byte
	}
	Zeros struct{ Offset, Length uint64 }
	Keep  struct{ First, Count uint32 }
	Close struct {
		Size   uint64
		Digest [HashSize]byte
	}
	Abandon struct{}
	Total   struct{ Files, Bytes uint64 }
	End     struct{}
	Want    struct {
		ID     uint32
		More   bool
		Hashes []byte // HashSize each
	}
	Decline  struct{ ID uint32 }
	Finished struct {
		Files, Folders uint64
		Bytes          uint64 // of all files
		Kept           uint64 // of them, were there already
	}
	Problem struct {
		Name string // as the sender calls it
		Code refusal.Code
		Text string
	}
)

func (Get) kind() kind      { return kindGet }
func (Put) kind() kind      { return kindPut }
func (Ready) kind() kind    { return kindReady }
func (Refused) kind() kind  { return kindRefused }
func (Folder) kind() kind   { return kindFolder }
func (Link) kind() kind     { return kindLink }
func (Small) kind() kind    { return kindSmall }
func (Offer) kind() kind    { return kindOffer }
func (Begin) kind() kind    { return kindBegin }
func (Data) kind() kind     { return kindData }
func (Zeros) kind() kind    { return kindZeros }
func (Keep) kind() kind     { return kindKeep }
func (Close) kind() kind    { return kindClose }
func (Abandon) kind() kind  { return kindAbandon }
func (Total) kind() kind    { return kindTotal }
func (End) kind() kind      { return kindEnd }
func (Want) kind() kind     { return kindWant }
func (Decline) kind() kind  { return kindDecline }
func (Finished) kind() kind { return kindFinished }
func (Problem) kind() kind  { return kindProblem }

var be = binary.BigEndian

func text(b []byte, s string) []byte { return append(be.AppendUint16(b, uint16(len(s))), s...) }

func (m Get) append(b []byte) []byte {
	b = be.AppendUint16(be.AppendUint32(b, uint32(m.Flags)), uint16(len(m.Paths)))
	for _, p := range m.Paths {
		b = text(b, p)
	}
	return b
}
func (m Put) append(b []byte) []byte     { return text(be.AppendUint32(b, uint32(m.Flags)), m.Path) }
func (Ready) append(b []byte) []byte     { return b }
func (m Refused) append(b []byte) []byte { return text(text(b, string(m.Code)), cut(m.Text)) }
func (m Folder) append(b []byte) []byte {
	return text(be.AppendUint64(be.AppendUint32(b, m.Mode), uint64(m.Time)), m.Name)
}
func (m Link) append(b []byte) []byte { return text(text(b, m.Name), m.Target) }
func (m Small) append(b []byte) []byte {
	b = append(be.AppendUint64(be.AppendUint32(b, m.Mode), uint64(m.Time)), m.Hash[:]...)
	return append(text(b, m.Name), m.Data...)
}
func (m Offer) append(b []byte) []byte {
	b = append(be.AppendUint32(b, m.ID), byte(m.Flags))
	b = be.AppendUint64(be.AppendUint32(b, m.Mode), uint64(m.Time))
	return text(be.AppendUint64(be.AppendUint64(b, m.Size), m.Allocated), m.Name)
}
func (m Begin) append(b []byte) []byte { return be.AppendUint32(b, m.ID) }
func (m Data) append(b []byte) []byte  { return append(be.AppendUint64(b, m.Offset), m.Bytes...) }
func (m Zeros) append(b []byte) []byte {
	return be.AppendUint64(be.AppendUint64(b, m.Offset), m.Length)
}
func (m Keep) append(b []byte) []byte  { return be.AppendUint32(be.AppendUint32(b, m.First), m.Count) }
func (m Close) append(b []byte) []byte { return append(be.AppendUint64(b, m.Size), m.Digest[:]...) }
func (Abandon) append(b []byte) []byte { return b }
func (m Total) append(b []byte) []byte { return be.AppendUint64(be.AppendUint64(b, m.Files), m.Bytes) }
func (End) append(b []byte) []byte     { return b }
func (m Want) append(b []byte) []byte {
	more := byte(0)
	if m.More {
		more = 1
	}
	return append(append(be.AppendUint32(b, m.ID), more), m.Hashes...)
}
func (m Decline) append(b []byte) []byte { return be.AppendUint32(b, m.ID) }
func (m Finished) append(b []byte) []byte {
	for _, n := range [...]uint64{m.Files, m.Folders, m.Bytes, m.Kept} {
		b = be.AppendUint64(b, n)
	}
	return b
}
func (m Problem) append(b []byte) []byte {
	return text(text(text(b, m.Name), string(m.Code)), cut(m.Text))
}

// cut shortens a text for people.
func cut(s string) string { return s[:min(len(s), MaxText)] }
