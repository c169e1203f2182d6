// Package conf decodes the TOML files that people write for TucDesk: the policy
// and the configuration of servers and agents.
//
// A mistake in such a file must never be read as silence. A misspelt
// "approvals" that is skipped is a gate that is not there, so Decode is
// stricter than TOML is:
//
//   - a key that the target does not have is an error, with its line and name;
//   - keys are lower-case ASCII letters, digits, "_" and "-". The library
//     underneath matches names without regard to case, so "Mode" beside "mode"
//     would otherwise overwrite it and yet look like another key to a reader;
//   - a file longer than the caller's limit, or nested deeper than MaxDepth, is
//     refused before any of it is parsed: the parser recurses, and Go ends the
//     whole process when a stack overflows.
//
// Errors read "line 12: approval.cout: unknown key, did you mean count?" and hold
// nothing of the file but key names, so that a secret put in the wrong place is not
// printed.
package conf

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// MaxDepth is how deep arrays and tables may nest, and how many parts a dotted
// key may have. Our choice: the deepest of our own files needs 4.
const MaxDepth = 8

// maxReported bounds how many unknown keys one error lists.
const maxReported = 10

// Decode reads data, one TOML document of at most max bytes, into the struct
// that into points to. Keys absent from the document leave their fields as they
// are, so defaults can be set before the call. After an error the fields hold
// nothing that may be used.
func Decode(data []byte, into any, max int) error {
	if len(data) > max {
		return fmt.Errorf("the file has %d bytes, the limit is %d", len(data), max)
	}
	if err := checkDepth(data); err != nil {
		return err
	}
	if err := checkKeys(data); err != nil {
		return err
	}
	dec := toml.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	return explain(dec.Decode(into), reflect.TypeOf(into))
}

// explain turns the library's errors into one line per mistake; into is what was
// decoded into.
func explain(err error, into reflect.Type) error {
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) {
		return unknownKeys(unknown.Errors, into)
	}
	var one *toml.DecodeError
	if errors.As(err, &one) {
		row, _ := one.Position()
		text := strings.TrimPrefix(one.Error(), "toml: ")
		if k := strings.Join(one.Key(), "."); k != "" {
			return fmt.Errorf("line %d: %s: %s", row, k, text)
		}
		return fmt.Errorf("line %d: %s", row, text)
	}
	return err
}

func unknownKeys(list []toml.DecodeError, into reflect.Type) error {
	var lines []string
	for i := range list {
		if i == maxReported {
			lines = append(lines, fmt.Sprintf("and %d more", len(list)-i))
			break
		}
		row, _ := list[i].Position()
		line := fmt.Sprintf("line %d: %s: unknown key", row, strings.Join(list[i].Key(), "."))
		switch meant, table := meantKeys(into, list[i].Key()); {
		case len(meant) > 0:
			line += ", did you mean " + strings.Join(meant, " or ") + "?"
		case len(table) > 0:
			line += "; the keys there are " + strings.Join(table, ", ")
		}
		lines = append(lines, line)
	}
	return errors.New(strings.Join(lines, "; "))
}

// checkDepth counts brackets outside strings and comments. It need not be a TOML
// parser: on a malformed file it may stop early, and the real parser then fails.
func checkDepth(data []byte) error {
	depth, line := 0, 1
	for i := 0; i < len(data); i++ {
		switch c := data[i]; c {
		case '\n':
			line++
		case '#':
			i += lineLength(data[i:]) - 1
		case '"', '\'':
			n := stringLength(data[i:])
			line += bytes.Count(data[i:i+n], []byte{'\n'})
			i += n - 1
		case '[', '{':
			if depth++; depth > MaxDepth {
				return fmt.Errorf("line %d: nested deeper than %d levels", line, MaxDepth)
			}
		case ']', '}':
			depth--
		}
	}
	return nil
}

// lineLength returns the bytes before the next newline.
func lineLength(data []byte) int {
	if n := bytes.IndexByte(data, '\n'); n >= 0 {
		return n
	}
	return len(data)
}

// stringLength returns the length, quotes included, of the string that data
// starts with. An unterminated one-line string ends with its line: going on
// would let it hide the brackets after it.
func stringLength(data []byte) int {
	quote := data[:1]
	if triple := bytes.Repeat(quote, 3); bytes.HasPrefix(data, triple) {
		for i := 3; i < len(data); i++ {
			if data[i] == '\\' && quote[0] == '"' {
				i++
			} else if bytes.HasPrefix(data[i:], triple) {
				return i + 3
			}
		}
		return len(data)
	}
	for i := 1; i < len(data) && data[i] != '\n'; i++ {
		if data[i] == '\\' && quote[0] == '"' {
			i++
		} else if data[i] == quote[0] {
			return i + 1
		}
	}
	return lineLength(data)
}

// checkKeys enforces the spelling of keys. Syntax errors are left to the decoder,
// which words them better.
func checkKeys(data []byte) error {
	var p unstable.Parser
	p.Reset(data)
	for p.NextExpression() {
		if err := checkNode(&p, p.Expression()); err != nil {
			return err
		}
	}
	return nil
}

// checkNode looks at the key of one table or value and at the inline tables
// inside it; checkDepth has bounded the recursion.
func checkNode(p *unstable.Parser, n *unstable.Node) error {
	switch n.Kind {
	case unstable.Table, unstable.ArrayTable, unstable.KeyValue:
		parts := 0
		for it := n.Key(); it.Next(); {
			k := it.Node()
			if parts++; parts > MaxDepth {
				return fmt.Errorf("line %d: a key of more than %d parts", lineOf(p, k), MaxDepth)
			}
			if !plainKey(k.Data) {
				return fmt.Errorf("line %d: key %q: write keys in lower-case letters, digits, _ and -", lineOf(p, k), k.Data)
			}
		}
		if n.Kind == unstable.KeyValue {
			return checkNode(p, n.Value())
		}
	case unstable.Array, unstable.InlineTable:
		for it := n.Children(); it.Next(); {
			if err := checkNode(p, it.Node()); err != nil {
				return err
			}
		}
	}
	return nil
}

func lineOf(p *unstable.Parser, n *unstable.Node) int { return p.Shape(n.Raw).Start.Line }

func plainKey(k []byte) bool {
	for _, c := range k {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return len(k) > 0
}
