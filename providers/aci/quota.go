package aci

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/quota"
)

// The operations by which requests are counted, as Azure's headers
// x-ms-ratelimit-remaining-subscription-… do.
const (
	readQuota   = "reads"
	createQuota = "creates"
	deleteQuota = "deletes"
)

// windows are the rates of the service itself for a subscription and region,
// which hold for creates and for deletes (container-instances quotas, Microsoft
// Learn). They are raised on request.
var windows = []quota.Window{{Calls: 100, Length: 5 * time.Minute}, {Calls: 300, Length: time.Hour}}

// Plan is the documented request quotas for the subscription and region of the
// settings: the token buckets of Azure Resource Manager for one principal
// (request limits and throttling, Microsoft Learn) and the rates of the service.
func (c *Config) Plan() quota.Plan {
	return quota.Plan{
		Key: name + "\x00" + strings.ToLower(c.SubscriptionID) + "\x00" + strings.ToLower(c.Region),
		Quotas: []quota.Quota{
			{Operation: readQuota, Rules: quota.Rules{Bucket: quota.Bucket{Burst: 250, PerSecond: 25}}},
			{Operation: createQuota, Rules: quota.Rules{Bucket: quota.Bucket{Burst: 200, PerSecond: 10}, Windows: windows}},
			{Operation: deleteQuota, Rules: quota.Rules{Bucket: quota.Bucket{Burst: 200, PerSecond: 10}, Windows: windows}},
		},
		Create: createQuota, Delete: deleteQuota,
	}
}

// quotaOf is the operation that a request is counted as.
func quotaOf(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost: // a POST only asks, as for a log
		return readQuota
	case http.MethodDelete:
		return deleteQuota
	default:
		return createQuota
	}
}

// leftHeaders tell how many requests the resource manager has left for the principal.
// The headers of the whole subscription count fifteen times as much, and never bind.
var leftHeaders = map[string]string{
	http.MethodGet:    "X-Ms-Ratelimit-Remaining-Subscription-Reads",
	http.MethodPut:    "X-Ms-Ratelimit-Remaining-Subscription-Writes",
	http.MethodDelete: "X-Ms-Ratelimit-Remaining-Subscription-Deletes",
}

// left is how many requests of a method are left by an answer, false where it does not
// say.
func left(method string, h http.Header) (int, bool) {
	n, err := strconv.Atoi(h.Get(leftHeaders[method]))
	return n, err == nil && n >= 0
}

// verdict is what an answer says about the quota.
func verdict(resp *http.Response) error {
	after := retryAfter(resp.Header)
	switch resp.StatusCode {
	case http.StatusTooManyRequests:
		return &providers.Error{Class: providers.Throttled, RetryAfter: after}
	case http.StatusServiceUnavailable:
		return &providers.Error{Class: providers.Unavailable, RetryAfter: after}
	}
	return nil
}
