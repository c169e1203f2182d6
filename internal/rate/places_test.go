package rate

import "testing"

func TestPlacesAreOneKeysOwnAndComeBack(t *testing.T) {
	p := NewPlaces[string](2)
	leave, ok := p.Enter("a")
	_, second := p.Enter("a")
	if _, third := p.Enter("a"); !ok || !second || third {
		t.Fatalf("%v %v %v", ok, second, third)
	}
	if _, other := p.Enter("b"); !other {
		t.Error("one key took another's place")
	}
	leave()
	again, ok := p.Enter("a")
	if !ok {
		t.Fatal("the place was not given back")
	}
	again()
	if p.taken["a"] != 1 {
		t.Errorf("%v", p.taken)
	}
	p.leave("a")
	p.leave("b")
	if len(p.taken) != 0 {
		t.Errorf("%v is remembered", p.taken)
	}
}
