package meter

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestMeasure(t *testing.T) {
	self := Programs{"self": os.Getpid()}
	spin := func() {
		for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); {
		}
	}
	used, strangers := self.Measure(spin)
	if got := used["self"]; got < 20*time.Millisecond {
		t.Errorf("a busy loop of 200 ms used %s", got)
	}
	if strangers < 0 || strangers > 1 {
		t.Errorf("strangers took %v of the machine", strangers)
	}
	if got := used.Describe(2); !strings.Contains(got, "self=") {
		t.Errorf("described as %q", got)
	}
	if _, strangers := (Programs{}).Measure(spin); strangers == 0 {
		t.Error("a program that is not in the list is no stranger")
	}
}

func TestMemory(t *testing.T) {
	now, peak, err := Memory(os.Getpid())
	if err != nil || now < 1<<20 || peak < now {
		t.Errorf("now %d bytes, at most %d, error %v", now, peak, err)
	}
	if _, _, err := Memory(-1); err == nil {
		t.Error("memory of a process that is none")
	}
}
