package aci

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// throttle counts requests against the limits of ARM and of the provider.
type throttle struct {
	clock clock.PassiveClock

	mu      sync.Mutex
	buckets map[bucketKey]*bucketLevel
	windows map[windowKey][]time.Time // oldest first
}

type bucketKey struct{ subscription, principal, kind string }

type bucketLevel struct {
	tokens float64
	at     time.Time
}

type windowKey struct{ subscription, location, kind string }

func newThrottle(clk clock.PassiveClock) *throttle {
	return &throttle{clock: clk, buckets: map[bucketKey]*bucketLevel{}, windows: map[windowKey][]time.Time{}}
}

// kindOf names the bucket that a method draws from, as the header does.
func kindOf(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead:
		return "reads"
	case http.MethodDelete:
		return "deletes"
	default:
		return "writes"
	}
}

func (l ARMLimits) bucket(kind string) Bucket {
	switch kind {
	case "reads":
		return l.Reads
	case "deletes":
		return l.Deletes
	default:
		return l.Writes
	}
}

// globalFactor is how many times the regional bucket the global one holds.
const globalFactor = 15

// take draws one request from an ARM bucket and notes in header what remains.
// Without a limit the published size is shown.
func (t *throttle) take(limits ARMLimits, subscription, principal, method string, header http.Header) *apiError {
	kind := kindOf(method)
	bucket := limits.bucket(kind)
	note := func(tokens float64, size int) {
		used := float64(size) - tokens
		prefix := "X-Ms-Ratelimit-Remaining-Subscription-"
		header.Set(prefix+kind, strconv.Itoa(int(tokens)))
		header.Set(prefix+"Global-"+kind, strconv.Itoa(size*globalFactor-int(math.Ceil(used))))
	}
	if bucket.Size <= 0 {
		size := PublishedARMLimits().bucket(kind).Size
		note(float64(size-1), size)
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.clock.Now()
	key := bucketKey{strings.ToLower(subscription), principal, kind}
	level, ok := t.buckets[key]
	if !ok {
		level = &bucketLevel{tokens: float64(bucket.Size), at: now}
		t.buckets[key] = level
	}
	level.tokens = math.Min(float64(bucket.Size), level.tokens+now.Sub(level.at).Seconds()*bucket.RefillPerSecond)
	level.at = now
	if level.tokens < 1 {
		note(0, bucket.Size)
		wait := time.Duration(math.MaxInt32) * time.Second
		if bucket.RefillPerSecond > 0 {
			wait = time.Duration((1 - level.tokens) / bucket.RefillPerSecond * float64(time.Second))
		}
		return &apiError{
			status: http.StatusTooManyRequests, code: "SubscriptionRequestsThrottled", gateway: true, retryAfter: wait,
			message: "Number of '" + kind + "' requests for subscription '" + subscription + "' exceeded the limit. Please try again after '" + wholeSeconds(wait) + "' seconds.",
		}
	}
	level.tokens--
	note(level.tokens, bucket.Size)
	return nil
}

// admit counts one create or delete against the provider's rates and notes in
// header what remains.
func (t *throttle) admit(limits ProviderLimits, subscription, location, kind string, header http.Header) *apiError {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.clock.Now()
	key := windowKey{strings.ToLower(subscription), location, kind}
	times := t.windows[key]
	for len(times) > 0 && now.Sub(times[0]) >= time.Hour {
		times = times[1:]
	}
	t.windows[key] = times

	var wait time.Duration
	published := PublishedProviderLimits()
	for _, window := range []struct {
		limit, shown int
		length       time.Duration
		header       string
	}{
		{limits.PerFiveMinutes, published.PerFiveMinutes, 5 * time.Minute, "pt5m"},
		{limits.PerHour, published.PerHour, time.Hour, "pt1h"},
	} {
		inside := times
		for len(inside) > 0 && now.Sub(inside[0]) >= window.length {
			inside = inside[1:]
		}
		remaining := window.shown
		if window.limit > 0 {
			remaining = window.limit - len(inside)
			if remaining <= 0 {
				// A place is free when enough of the oldest have left.
				wait = max(wait, inside[len(inside)-window.limit].Add(window.length).Sub(now))
			}
		}
		header.Set("X-Ms-Ratelimit-Remaining-Subscription-Resource-Requests-"+window.header, strconv.Itoa(max(0, remaining-1)))
	}
	if wait > 0 {
		return &apiError{
			status: http.StatusTooManyRequests, code: "TooManyRequests", retryAfter: wait,
			message: "The subscription sends too many requests of kind '" + kind + "' in region '" + location + "'. Please retry after '" + wholeSeconds(wait) + "' seconds.",
		}
	}
	if limits.PerFiveMinutes > 0 || limits.PerHour > 0 {
		t.windows[key] = append(times, now)
	}
	return nil
}

// wholeSeconds rounds up to whole seconds, at least one.
func wholeSeconds(d time.Duration) string {
	return strconv.Itoa(max(1, int(math.Ceil(d.Seconds()))))
}
