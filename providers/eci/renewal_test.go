package eci

import (
	"context"
	"errors"
	"testing"
	"time"
)

// A key is replaced before its end; while no other is to be had it serves on, and
// after its end the reason is told.
func TestSessionRenewal(t *testing.T) {
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	now, asked := start, 0
	var fail error
	s := &session{now: func() time.Time { return now }, ask: func(context.Context) (Credentials, time.Time, error) {
		asked++
		if fail != nil {
			return Credentials{}, time.Time{}, fail
		}
		return Credentials{AccessKeyID: string(rune('0' + asked))}, now.Add(time.Hour), nil
	}}
	down := errors.New("the service is down")
	steps := []struct {
		what  string
		after time.Duration // since the start
		fail  error
		key   string // "" is an error
		asked int
	}{
		{"the first", 0, nil, "1", 1},
		{"kept", 49 * time.Minute, nil, "1", 1},
		{"replaced ten minutes before its end", 51 * time.Minute, nil, "2", 2},
		{"no other to be had", 102 * time.Minute, down, "2", 3},
		{"not asked for each call", 102*time.Minute + 4*time.Second, down, "2", 3},
		{"ended", 112 * time.Minute, down, "", 4},
		{"still down", 112*time.Minute + time.Second, down, "", 4},
		{"back", 113 * time.Minute, nil, "5", 5},
	}
	for _, step := range steps {
		now, fail = start.Add(step.after), step.fail
		key, err := s.credentials()
		if key.AccessKeyID != step.key || (err == nil) != (step.key != "") || asked != step.asked {
			t.Errorf("%s: key %q, error %v, asked %d times, want %q and %d times", step.what, key.AccessKeyID, err, asked, step.key, step.asked)
		}
	}
	// The cloud refuses the key: at once it is the role's fault, later the key's.
	s.refused(Credentials{AccessKeyID: "5"})
	if _, err := s.credentials(); err != nil || asked != 5 {
		t.Errorf("a key that was just given was replaced: asked %d times, %v", asked, err)
	}
	now = now.Add(2 * time.Minute)
	s.refused(Credentials{AccessKeyID: "4"})
	s.refused(Credentials{AccessKeyID: "5"})
	if key, err := s.credentials(); err != nil || key.AccessKeyID != "6" {
		t.Errorf("key %q, %v after a refusal, want another", key.AccessKeyID, err)
	}
}
