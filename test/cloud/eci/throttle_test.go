package eci

import (
	"testing"
	"time"
)

// Whether a throttled answer says for how long is a setting: it is not published.
func TestThrottlingWithRetryAfter(t *testing.T) {
	for name, tt := range map[string]struct {
		after time.Duration
		want  string
	}{
		"no header":     {0, ""},
		"whole seconds": {7 * time.Second, "7"},
		"a fraction":    {1200 * time.Millisecond, "2"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t, func(o *Options) {
				o.Rates = Rates{PerMinute: map[string]int{"DescribeRegions": 0}, RetryAfter: tt.after}
			})
			if got := c.refused(400, "Throttling.User", "DescribeRegions").header.Get("Retry-After"); got != tt.want {
				t.Errorf("Retry-After %q, want %q", got, tt.want)
			}
			if got := c.refused(400, "MissingContainerGroupId", "DeleteContainerGroup").header.Get("Retry-After"); got != "" {
				t.Errorf("Retry-After %q of an answer that is not throttled", got)
			}
		})
	}
}
