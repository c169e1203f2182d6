package bench

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/internal/netlab"
)

// Time between two keys, evenly distributed: a quick typist; our choice.
const (
	leastPause = 80 * time.Millisecond
	mostPause  = 220 * time.Millisecond
)

// Waits of the rows about lost networks; our choice.
const (
	awayTime = 10 * time.Second
	backTime = 60 * time.Second
	roamTime = 30 * time.Second
)

func lossy() netlab.WAN { return netlab.WAN{Delay: halfTrip, Loss: 0.01} }

func (r *run) echo() error {
	s := r.newStage()
	return s.typing(s.ssh("ssh"), s.mosh("mosh", "never"), s.tucdesk("tucdesk", "never"))
}

func (r *run) predict() error {
	s := r.newStage()
	return s.typing(s.mosh("mosh", "always"), s.tucdesk("tucdesk", "always"))
}

// typing measures all subjects at the same time: it is a second in which a key
// takes long, not a subject.
func (s *stage) typing(subjects ...subject) error {
	s.say("%d keys each", s.cfg.Keys)
	return s.together(lossy(), subjects, func(x subject, _ *netlab.Host, t *terminal) ([]Figure, error) {
		var took []float64
		lost := 0
		for range s.cfg.Keys {
			d, err := t.key(lostKey)
			if errors.Is(err, errEnded) {
				return nil, fmt.Errorf("after %d keys: %v", len(took), err)
			}
			if err != nil {
				lost++
				d = lostKey
			}
			took = append(took, milliseconds(d))
			if err := s.pause(leastPause + rand.N(mostPause-leastPause)); err != nil {
				return nil, err
			}
		}
		all := newFigure(x.name, "p50", "ms", took)
		tail := newFigure(x.name, "p99", "ms", []float64{quantile(all.values, 0.99)})
		tail.Samples = all.Samples
		tail.Least, tail.Most = all.Least, all.Most
		if lost > 0 {
			tail.Note = fmt.Sprintf("%d keys did not show within %v", lost, lostKey)
		}
		return []Figure{all, tail}, nil
	})
}

// together opens a session of every subject, each from its own seat, and measures
// them side by side.
func (s *stage) together(w netlab.WAN, subjects []subject, measure func(subject, *netlab.Host, *terminal) ([]Figure, error)) error {
	results := make([][]Figure, len(subjects))
	var all sync.WaitGroup
	for i, x := range subjects {
		h := s.seat(x.name, w)
		t, err := s.open(x, h)
		if err != nil {
			results[i] = []Figure{{Subject: x.name, Note: firstLine(err.Error())}}
			continue
		}
		all.Go(func() {
			err := s.caught(func() (err error) { results[i], err = measure(x, h, t); return err })
			if err != nil {
				results[i] = []Figure{{Subject: x.name, Note: firstLine(err.Error())}}
			}
		})
	}
	all.Wait()
	byMetric(results, func(f Figure) { s.figures = append(s.figures, f) })
	return s.Err()
}

// byMetric puts figures of one metric beside each other.
func byMetric(results [][]Figure, add func(Figure)) {
	for at := 0; ; at++ {
		any := false
		for _, list := range results {
			if at < len(list) {
				add(list[at])
				any = true
			}
		}
		if !any {
			return
		}
	}
}

func (r *run) idle() error {
	s := r.newStage()
	s.say("watching for %v", s.cfg.Idle)
	return s.together(wan(), []subject{s.ssh("ssh"), s.mosh("mosh", "never"), s.tucdesk("tucdesk", "never")},
		func(x subject, h *netlab.Host, t *terminal) ([]Figure, error) {
			if _, err := t.key(lostKey); err != nil {
				return nil, err
			}
			if err := s.pause(5 * time.Second); err != nil { // whatever a new session still has to do
				return nil, err
			}
			before, packets := traffic(h)
			if err := s.pause(s.cfg.Idle); err != nil {
				return nil, err
			}
			after, packets2 := traffic(h)
			seconds := s.cfg.Idle.Seconds()
			return []Figure{
				newFigure(x.name, "traffic", "bytes/s", []float64{float64(after-before) / seconds}),
				newFigure(x.name, "packets", "/s", []float64{float64(packets2-packets) / seconds}),
			}, nil
		})
}

// traffic is what a host has sent and received, in bytes of IP and in packets.
func traffic(h *netlab.Host) (bytes, packets uint64) {
	up, down := h.Count()
	return up.Bytes + down.Bytes, up.Packets + down.Packets
}

func (r *run) cut() error {
	s := r.newStage()
	return s.lostNetwork("after the return", backTime, func(h *netlab.Host, t *terminal) (byte, time.Time, error) {
		h.Cut()
		if err := s.pause(time.Second); err != nil {
			return 0, time.Time{}, err
		}
		key, _, err := t.press()
		if err == nil {
			err = s.pause(awayTime - time.Second)
		}
		h.Mend()
		return key, time.Now(), err
	})
}

func (r *run) roam() error {
	s := r.newStage()
	return s.lostNetwork("after the change", roamTime, func(h *netlab.Host, t *terminal) (byte, time.Time, error) {
		h.Renumber()
		return t.press()
	})
}

// lostNetwork does something to the network under a session, again and again, and
// measures how long a key then takes to show.
func (s *stage) lostNetwork(metric string, patience time.Duration, disturb func(*netlab.Host, *terminal) (byte, time.Time, error)) error {
	return s.together(wan(), []subject{s.ssh("ssh"), s.mosh("mosh", "never"), s.tucdesk("tucdesk", "never")},
		func(x subject, h *netlab.Host, t *terminal) ([]Figure, error) {
			var took []float64
			for range s.cfg.Repeat {
				if _, err := t.key(lostKey); err != nil {
					return nil, fmt.Errorf("before: %v", err)
				}
				key, start, err := disturb(h, t)
				if err != nil {
					return nil, err
				}
				at, err := t.await(key, patience)
				if err != nil {
					return []Figure{{Subject: x.name, Metric: metric, Note: "lost: " + err.Error()}}, nil
				}
				took = append(took, max(0, milliseconds(at.Sub(start))))
			}
			return []Figure{newFigure(x.name, metric, "ms", took)}, nil
		})
}
