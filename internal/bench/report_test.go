package bench

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
)

func TestMedianAndTail(t *testing.T) {
	var values []float64
	for i := 100; i > 0; i-- {
		values = append(values, float64(i))
	}
	f := newFigure("ssh", "time", "ms", values)
	if f.Median != 50 || f.Least != 1 || f.Most != 100 || f.Samples != 100 || quantile(f.values, 0.99) != 99 || quantile(f.values, 1) != 100 || quantile(f.values, 0) != 1 {
		t.Errorf("%+v", f)
	}
	if one := newFigure("ssh", "time", "ms", []float64{7}); one.Median != 7 || quantile(one.values, 0.99) != 7 {
		t.Errorf("%+v", one)
	}
}

func TestRatiosAreAgainstTheFirstMeasured(t *testing.T) {
	list := []Figure{
		newFigure("ssh", "p50", "ms", nil),
		newFigure("mosh", "p50", "ms", []float64{60}),
		newFigure("tucdesk", "p50", "ms", []float64{51}),
		newFigure("tucdesk", "p99", "ms", []float64{80}),
	}
	compare(list)
	if list[0].Against != "" || list[1].Against != "" || list[3].Against != "" {
		t.Errorf("%+v", list)
	}
	if list[2].Against != "mosh" || math.Abs(list[2].Ratio-0.85) > 1e-9 {
		t.Errorf("%+v", list[2])
	}
}

func TestTableShowsWhatIsMissing(t *testing.T) {
	list := []Figure{newFigure("mosh", "p50", "ms", nil), newFigure("ssh", "p50", "ms", []float64{200, 100, 300}), newFigure("tucdesk", "p50", "ms", []float64{50})}
	list[0].Note = "no program mosh-client: apt-get install mosh"
	compare(list)
	var out strings.Builder
	r := Report{Machine: "a machine", Results: []Result{{Row: "echo", What: "keys", Must: "fast", Figures: list}, {Row: "idle", What: "traffic", Failed: "no team"}}}
	if err := r.Print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"echo: keys", "must: fast", "apt-get install mosh", "200 ms", "100 to 300, n=3", "0.25 x ssh", "not measured: no team"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestJSONIsStable(t *testing.T) {
	f := newFigure("ssh", "p50", "ms", []float64{1})
	got, err := json.Marshal(Report{Machine: "m", Results: []Result{{Row: "echo", What: "keys", Figures: []Figure{f}}}})
	want := `{"machine":"m","results":[{"row":"echo","what":"keys","figures":[{"subject":"ssh","metric":"p50","unit":"ms","median":1,"least":1,"most":1,"samples":1}]}]}`
	if err != nil || string(got) != want {
		t.Errorf("%s %v", got, err)
	}
}
