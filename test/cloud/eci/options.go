package eci

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

// Options sets up a Server. Regions and AccessKeys are needed; every other zero
// value has a documented meaning. What the vendor does not publish is here.
type Options struct {
	AccessKeys []AccessKey
	Regions    []Region
	// Sim is the life of the container groups and the clock of the server. A
	// zero Sim.Timing means that nothing takes time.
	Sim sim.Config

	// PageSize bounds what one list answer holds, below the Limit of the
	// request; zero does not.
	PageSize int
	// TimestampWindow is how far a request's Timestamp may be from the server's
	// time. Two vendor pages say 31 and 15 minutes; zero is 31.
	TimestampWindow time.Duration
	// NonceWindow is how long a SignatureNonce may not return; zero is 31 min.
	NonceWindow time.Duration
	// TokenRetention is how long a ClientToken is remembered; zero is 24 h.
	TokenRetention time.Duration
	// RememberRefusals makes the service remember a refusal under the ClientToken of
	// the request, as it does a success; whether it does is not published.
	RememberRefusals bool
	// EIPs are public addresses of the account that groups may be given, by their ids.
	EIPs map[string]netip.Addr
	// FullVSwitchIsPassed makes a request of several vSwitches go on to the next where one
	// has no address left, as it does where one has no stock; whether the service does is
	// not published.
	FullVSwitchIsPassed bool
	// MaxURL bounds a request's URL in bytes, as a proxy does; zero does not.
	MaxURL int
	// Rates throttles the account; the zero value does not.
	Rates Rates
	// MaxCPU is the account's vCPU quota per region; zero is no quota.
	MaxCPU float64
	// GracePeriod is used by groups without TerminationGracePeriodSeconds; zero
	// is 30 s.
	GracePeriod time.Duration
	// StatusInMetadataCase makes DescribeContainerGroupStatus and
	// DescribeContainerGroupEvents spell their members as the published
	// metadata prints them, instead of in the lower camel case of Kubernetes.
	StatusInMetadataCase bool
	// LogNeedsRunning makes DescribeContainerLog answer IncorrectStatus for
	// groups that are not Running.
	LogNeedsRunning bool
	// MetricPeriod is how often usage is measured for
	// DescribeMultiContainerGroupMetric; zero is 15 s, the smallest published
	// period. MetricDelay is how old the newest record is at least, beside that;
	// not published.
	MetricPeriod, MetricDelay time.Duration
	// MissingGroup answers Delete, Restart and Log of an unknown group; zero is
	// MissingGroup answers calls that change or read one unknown group; zero is
	// 400 InvalidParameter.
	MissingGroup struct {
		Status int
		Code   string
	}
	// SpotShare is the price of spot machines as a part of the ordinary price,
	// where SetSpotPrices says nothing else; zero is 0.2.
	SpotShare float64
	// SpotNotice is the time from SpotToBeReleased to the end of a spot group. Two
	// vendor pages say about 3 and 5 minutes; zero is 3.
	SpotNotice time.Duration
	// ArrearsGrace is how long groups outlive an outstanding payment; zero is for
	// ever.
	ArrearsGrace time.Duration
	// SnapshotTime is how long the snapshot of an image cache takes once its
	// images are pulled; zero takes none.
	SnapshotTime time.Duration
	// MaxImageCaches is the account's quota of image caches per region; zero is 50.
	MaxImageCaches int
}

// AccessKey is one key pair of the account.
type AccessKey struct {
	ID, Secret string
	// SecurityToken is the token of a temporary key; empty for a lasting one.
	SecurityToken string
	// Expires is when a temporary key ends; zero is never.
	Expires  time.Time
	Inactive bool
}

// Region is one region in which the account may run groups.
type Region struct {
	ID             string
	Zones          []string
	VSwitches      []VSwitch // the first is the default
	SecurityGroups []SecurityGroup
}

// VSwitch is one subnet. Groups get their addresses from CIDR.
type VSwitch struct {
	ID, ZoneID, VpcID string
	CIDR              netip.Prefix
	// Addresses is how many addresses are free for groups, if fewer than CIDR has; the
	// others are taken by other machines. Zero is all.
	Addresses int
}

// SecurityGroup is one security group of a VPC. A group that names none gets
// the first of its VPC.
type SecurityGroup struct{ ID, VpcID string }

// Rates is the account's flow control.
type Rates struct {
	// PerMinute is the number of calls of an action in 60 s.
	PerMinute map[string]int
	// Buckets are token buckets by action.
	Buckets map[string]Bucket
	// Code of the refusal; empty is Throttling.User.
	Code string
	// RetryAfter is the header of that name in a refusal, in whole seconds. Whether the
	// service sends one is not published; zero does not.
	RetryAfter time.Duration
}

// Bucket is a token bucket.
type Bucket struct {
	Burst     int
	PerSecond float64
}

// QuotaRates are the limits of the vendor's API quota page: calls per minute.
func QuotaRates() Rates { return Rates{PerMinute: published().facts.FlowControl.Actions} }

// LimitRates are the limits of the vendor's product limits page: token buckets
// of 100, refilled by 20 a second, for creating and deleting; the calls per
// minute of QuotaRates for the rest.
func LimitRates() Rates {
	b := Bucket{Burst: 100, PerSecond: 20}
	r := Rates{PerMinute: map[string]int{}, Buckets: map[string]Bucket{"CreateContainerGroup": b, "DeleteContainerGroup": b}}
	for action, n := range published().facts.FlowControl.Actions {
		if _, ok := r.Buckets[action]; !ok {
			r.PerMinute[action] = n
		}
	}
	return r
}

func (o *Options) setDefaults() {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&o.TimestampWindow, 31*time.Minute)
	def(&o.NonceWindow, 31*time.Minute)
	def(&o.TokenRetention, 24*time.Hour)
	def(&o.GracePeriod, 30*time.Second)
	def(&o.MetricPeriod, 15*time.Second)
	def(&o.SpotNotice, 3*time.Minute)
	if o.SpotShare == 0 {
		o.SpotShare = 0.2
	}
	if o.MaxImageCaches == 0 {
		o.MaxImageCaches = 50
	}
	if o.Rates.Code == "" {
		o.Rates.Code = "Throttling.User"
	}
	if o.MissingGroup.Code == "" {
		o.MissingGroup.Status, o.MissingGroup.Code = 400, "InvalidParameter"
	}
}

// validate reports a mistake in the emulated account.
func (o Options) validate() error {
	for _, k := range o.AccessKeys {
		if k.ID == "" || k.Secret == "" {
			return fmt.Errorf("eci: access key %q needs an id and a secret", k.ID)
		}
	}
	if len(o.Regions) == 0 {
		return fmt.Errorf("eci: there is no region")
	}
	for _, r := range o.Regions {
		if len(r.VSwitches) == 0 {
			return fmt.Errorf("eci: region %s has no vSwitch", r.ID)
		}
		for _, v := range r.VSwitches {
			if !v.CIDR.IsValid() || !v.CIDR.Addr().Is4() || v.CIDR.Bits() > 29 {
				return fmt.Errorf("eci: vSwitch %s needs an IPv4 range of /29 or larger, not %s", v.ID, v.CIDR)
			}
		}
	}
	return nil
}
