package hop

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"testing"

	"github.com/pion/dtls/v2/pkg/protocol/recordlayer"
	"golang.org/x/crypto/chacha20poly1305"
)

// expand is the key expansion of TLS 1.2 (RFC 5246, sections 5 and 6.3), written
// again from the text.
func expand(master, client, server []byte, n int) (out []byte) {
	mac := func(b []byte) []byte {
		m := hmac.New(sha256.New, master)
		m.Write(b)
		return m.Sum(nil)
	}
	seed := append(append([]byte("key expansion"), server...), client...)
	for a := mac(seed); len(out) < n; a = mac(a) {
		out = append(out, mac(append(bytes.Clone(a), seed...))...)
	}
	return out[:n]
}

func suitePair(t testing.TB) (client, server *chacha, block []byte) {
	t.Helper()
	master, cr, sr := bytes.Repeat([]byte{1}, 48), bytes.Repeat([]byte{2}, 32), bytes.Repeat([]byte{3}, 32)
	client, server = &chacha{}, &chacha{}
	for c, isClient := range map[*chacha]bool{client: true, server: false} {
		if c.IsInitialized() {
			t.Fatal("keys before there are any")
		}
		if _, err := c.Encrypt(nil, make([]byte, 40)); err == nil {
			t.Fatal("sealed without keys")
		}
		if _, err := c.Decrypt(make([]byte, 40)); err == nil {
			t.Fatal("opened without keys")
		}
		if err := c.Init(master, cr, sr, isClient); err != nil {
			t.Fatal(err)
		}
	}
	return client, server, expand(master, cr, sr, 2*(32+12))
}

// TestM17RecordsAreThoseOfRFC7905 opens our records with the cipher alone.
func TestM17RecordsAreThoseOfRFC7905(t *testing.T) {
	client, _, block := suitePair(t)
	aead, err := chacha20poly1305.New(block[:32])
	if err != nil {
		t.Fatal(err)
	}
	for _, seq := range []uint64{0, 1, 255, 1 << 32, 1<<48 - 1} {
		plain := record(typeData, 1, seq, []byte("payload"))
		sealed, err := client.Encrypt(&recordlayer.RecordLayer{}, plain)
		if err != nil {
			t.Fatal(err)
		}
		nonce := bytes.Clone(block[64:76])
		for i, b := range binary.BigEndian.AppendUint64(nil, 1<<48|seq) {
			nonce[4+i] ^= b
		}
		ad := binary.BigEndian.AppendUint64(nil, 1<<48|seq)
		ad = append(ad, typeData, 0xfe, 0xfd, 0, 7)
		got, err := aead.Open(nil, nonce, sealed[recordHead:], ad)
		if err != nil || string(got) != "payload" {
			t.Errorf("sequence number %d: %q, %v", seq, got, err)
		}
	}
}

func TestEveryByteOfARecordCounts(t *testing.T) {
	client, server, _ := suitePair(t)
	sealed, err := client.Encrypt(&recordlayer.RecordLayer{}, record(typeData, 1, 77, []byte("payload")))
	if err != nil {
		t.Fatal(err)
	}
	for i := range sealed {
		for bit := range 8 {
			b := bytes.Clone(sealed)
			b[i] ^= 1 << bit
			if got, err := server.Decrypt(b); err == nil && i != recordSize && i != recordSize+1 {
				t.Fatalf("byte %d, bit %d: opened as %q", i, bit, got)
			}
		}
	}
	for n := range sealed {
		if _, err := server.Decrypt(bytes.Clone(sealed[:n])); err == nil {
			t.Fatalf("%d bytes: opened", n)
		}
	}
	if _, err := client.Decrypt(bytes.Clone(sealed)); err == nil {
		t.Error("reflected: opened")
	}
	if got, err := server.Decrypt(bytes.Clone(sealed)); err != nil || string(got[recordHead:]) != "payload" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestFilterOfAClientWhoseAnswerWasLost(t *testing.T) {
	f := &filter{server: true}
	f.prove()
	f.finish()
	again := append(append(record(typeHandshake, 0, 2, fragment(clientKeyExchange, 33, 2, 0, make([]byte, 33))),
		record(typeChange, 0, 3, []byte{1})...), record(typeHandshake, 1, 0, make([]byte, 40))...)
	for i := range maxRepeats {
		if got := f.pass(bytes.Clone(again)); !bytes.Equal(got, again) {
			t.Fatalf("repeat %d: %d of %d bytes", i, len(got), len(again))
		}
	}
	if f.pass(bytes.Clone(again)) != nil {
		t.Error("one repeat too many")
	}
	data := record(typeData, 1, 1, make([]byte, 40))
	if got := f.pass(bytes.Clone(data)); !bytes.Equal(got, data) {
		t.Error("data does not pass")
	}
	f.settle()
	if got := f.pass(append(bytes.Clone(again), data...)); !bytes.Equal(got, data) {
		t.Errorf("after data: %d bytes", len(got))
	}
}

func FuzzFilter(f *testing.F) {
	for _, seed := range [][]byte{
		nil, hello(f), record(typeAlert, 0, 9, []byte{2, 40}), record(typeData, 1, 9, make([]byte, 30)),
		record(typeHandshake, 0, 9, fragment(serverHello, 2, 1, 0, []byte{1, 2})), append(record(typeChange, 0, 9, []byte{1}), 22),
	} {
		f.Add(seed, true, true)
		f.Add(seed, false, false)
	}
	f.Fuzz(func(t *testing.T, b []byte, server, done bool) {
		in, fl := bytes.Clone(b), &filter{server: server, done: done, settled: done}
		opensConversation(b)
		answersCookie(b)
		out := fl.pass(bytes.Clone(b))
		// What passes is whole records, each as it came, and passes again.
		for rest := out; len(rest) > 0; {
			n := recordLength(rest)
			if n == 0 || !bytes.Contains(in, rest[:n]) {
				t.Fatalf("% x passed of % x", rest, in)
			}
			if done && (rest[0] == typeHandshake || rest[0] == typeChange || binary.BigEndian.Uint16(rest[recordEpoch:]) != 1) {
				t.Fatalf("% x passed after the handshake", rest[:n])
			}
			rest = rest[n:]
		}
		again := (&filter{server: server, done: done, settled: done}).pass(bytes.Clone(out))
		if len(out) > 0 && !bytes.Equal(again, out) {
			t.Fatalf("% x became % x", out, again)
		}
	})
}
