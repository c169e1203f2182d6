package credential

import (
	"bytes"
	"strings"
	"testing"
)

func TestSecretsFileIsReadInItsOneSpelling(t *testing.T) {
	s := NewSecret()
	text := s.FileText()
	if got, err := ParseFile(text); err != nil || !got.Equal(s) {
		t.Errorf("read as another secret: %v", err)
	}
	if got, err := ParseFile(bytes.TrimSuffix(text, []byte("\n"))); err != nil || !got.Equal(s) {
		t.Errorf("without its line end: %v", err)
	}
	good := string(text)
	at := len(FilePrefix) + 8
	for name, bad := range map[string]string{
		"empty": "", "no prefix": good[len(FilePrefix):], "cut": good[:len(good)-5], "padded": strings.TrimSpace(good) + "=\n", "not base64": FilePrefix + "!!!\n",
		"short": FilePrefix + "AAAA\n", "two": good + good, "a line end inside": good[:at] + "\r\n" + good[at:], "two at its end": good + "\n",
	} {
		got, err := ParseFile([]byte(bad))
		if err == nil || !got.IsZero() {
			t.Errorf("%s: taken", name)
		} else if strings.Contains(err.Error(), good[at:at+12]) {
			t.Errorf("%s: the error tells the secret", name)
		}
	}
}
