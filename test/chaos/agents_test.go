package chaos

import "testing"

// Whoever waits for the next blow is told of it, and of none before.
func TestBlow(t *testing.T) {
	var b blow
	b.strike()
	next := b.awaited()
	if b.awaited() != next {
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
}
