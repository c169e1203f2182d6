package bench

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// Report is the outcome of one run. Its JSON form is stable.
type Report struct {
	Machine string   `json:"machine"` // processor, cores and kernel
	Results []Result `json:"results"`
}

// Result is the outcome of one row.
type Result struct {
	Row     string   `json:"row"`
	What    string   `json:"what"`
	Must    string   `json:"must,omitempty"`
	Figures []Figure `json:"figures"`
	Failed  string   `json:"failed,omitempty"` // why the row could not be measured

	// LabLate is by how many milliseconds, to a power of two, the emulated network
	// itself was late with the latest of a hundred packets: what a busy machine
	// does to the figures. 0 where no link had a delay.
	LabLate float64 `json:"labLate,omitempty"`
}

// Figure is one metric of one subject.
type Figure struct {
	Subject string    `json:"subject"`
	Metric  string    `json:"metric"`
	Unit    string    `json:"unit"`
	Median  float64   `json:"median"`
	Least   float64   `json:"least"`
	Most    float64   `json:"most"`
	Samples int       `json:"samples"`
	Ratio   float64   `json:"ratio,omitempty"`   // Median in units of the peer's
	Against string    `json:"against,omitempty"` // the peer: the first subject with this metric
	Note    string    `json:"note,omitempty"`    // why there is no figure, or what goes with it
	values  []float64 // sorted
}

func newFigure(subject, metric, unit string, values []float64) Figure {
	f := Figure{Subject: subject, Metric: metric, Unit: unit, Samples: len(values)}
	if len(values) == 0 {
		return f
	}
	slices.Sort(values)
	f.values = values
	f.Least, f.Most = values[0], values[len(values)-1]
	f.Median = quantile(values, 0.5)
	return f
}

// quantile returns the smallest value that a share q of them does not exceed.
func quantile(sorted []float64, q float64) float64 {
	at := int(math.Ceil(q*float64(len(sorted)))) - 1
	return sorted[max(0, min(at, len(sorted)-1))]
}

// compare sets the ratios: every figure against the first measured one of its
// metric.
func compare(list []Figure) {
	first := map[string]Figure{}
	for i, f := range list {
		if f.Samples == 0 || f.Median == 0 {
			continue
		}
		if peer, ok := first[f.Metric]; ok {
			list[i].Ratio, list[i].Against = f.Median/peer.Median, peer.Subject
		} else {
			first[f.Metric] = f
		}
	}
}

// Print writes the report as a table for people.
func (r Report) Print(w io.Writer) error {
	fmt.Fprintf(w, "%s\n", r.Machine)
	for _, result := range r.Results {
		fmt.Fprintf(w, "\n%s: %s\n", result.Row, result.What)
		if result.Must != "" {
			fmt.Fprintf(w, "must: %s\n", result.Must)
		}
		if result.Failed != "" {
			fmt.Fprintf(w, "  not measured: %s\n", result.Failed)
		}
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, f := range result.Figures {
			fmt.Fprintf(t, "  %s\t%s\t%s\n", f.Subject, f.Metric, strings.Join(f.cells(), "\t"))
		}
		if err := t.Flush(); err != nil {
			return err
		}
		if result.LabLate > 0 {
			fmt.Fprintf(w, "  the network itself was late by at most %s ms for 99 %% of its packets\n", number(result.LabLate))
		}
	}
	return nil
}

func (f Figure) cells() []string {
	if f.Samples == 0 {
		return []string{"-", "", "", f.Note}
	}
	spread := ""
	if f.Samples > 1 {
		spread = fmt.Sprintf("%s to %s, n=%d", number(f.Least), number(f.Most), f.Samples)
	}
	ratio := ""
	if f.Against != "" {
		ratio = fmt.Sprintf("%.2f x %s", f.Ratio, f.Against)
	}
	return []string{number(f.Median) + " " + f.Unit, spread, ratio, f.Note}
}

// number prints three digits that mean something.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}
