package chaos

import (
	"testing"
	"time"
)

// Whoever waits for the next blow is told of it, and of none before.
func TestBlow(t *testing.T) {
	var b blow
	b.strike()
	before, next := b.last()
	if time.Since(before) > time.Minute {
		t.Errorf("the last blow was at %s", before)
	}
	if _, same := b.last(); same != next {
		t.Error("two that wait at once wait for different blows")
	}
	select {
	case <-next:
		t.Fatal("told of a blow that came before")
	default:
	}
	b.strike()
	select {
	case <-next:
	default:
		t.Fatal("not told of a blow")
	}
	if after, _ := b.last(); after.Before(before) {
		t.Errorf("the last blow was at %s, the one before at %s", after, before)
	}
}
