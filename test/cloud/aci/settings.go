package aci

import (
	"math"
	"time"
)

// Settings are what a test changes while the server runs, and what the service
// does not publish. The zero value is a service without shortages or limits.
type Settings struct {
	// PageSize is how many groups one page of a list holds; 0 is 100. The
	// service's own size is not published.
	PageSize int
	// TransitTime bounds how long after an accepted change further changes and
	// logs are refused with ContainerGroupTransitioning: until the change is
	// done, but no longer than this. The service advises to wait 10 s between
	// changes and publishes no bound; 0 is 10 s, negative refuses nothing that
	// the simulation can carry out.
	TransitTime time.Duration
	// StopGrace is how long a process may take to end after SIGTERM when its
	// group is stopped, deleted, restarted or updated; 0 is 30 s. Not published.
	StopGrace time.Duration
	// OperationRetention is how long an operation can be read after it began;
	// 0 is one hour. Not published.
	OperationRetention time.Duration
	// MetricDelay is how long after its end a minute's metrics can be read, some
	// one to three minutes in public experience; 0 is 2 min, negative at once.
	MetricDelay time.Duration
	// LogNotAvailableStatus is the HTTP status of ContainerLogNotAvailable,
	// which is not published; 0 is 400.
	LogNotAvailableStatus int
	// RefuseUnknownMembers refuses a request body with a member that the
	// Swagger does not know instead of ignoring it. What the service does is
	// not published.
	RefuseUnknownMembers bool
	// EvictionTime is how long a group that was evicted waits for capacity; 0 is
	// one minute. Not published.
	EvictionTime time.Duration
	// RegistrationTime is how long the registration of a subscription takes; 0
	// is no time. Not published.
	RegistrationTime time.Duration
	// CachedImages are the Linux images that cachedImages lists; nil is those of
	// the Swagger's example.
	CachedImages []string
	// ARM and Provider are the request rates; zero members do not limit. See
	// PublishedARMLimits and PublishedProviderLimits.
	ARM      ARMLimits
	Provider ProviderLimits
	// Quota bounds usages per subscription and region by the usage's name
	// (ContainerGroups, StandardCores, StandardSpotCores, and for confidential
	// groups ConfidentialContainerGroups, ConfidentialCores). An absent name is
	// not limited. See PublishedQuota.
	Quota map[string]int
	// Shortages refuse new deployments for want of capacity.
	Shortages []Shortage
	// InaccessibleImage says which images the registry refuses at PUT already
	// (InaccessibleImage). Nil finds fault with none; sim.Config.Images makes
	// pulls fail later.
	InaccessibleImage func(image string) bool
	// ExecWholeCommand takes the command of an exec, spaces included, for the name of
	// one program. Otherwise it is split at its spaces, whatever quotes it has. The
	// service runs "a single process"; what it does with arguments is not published.
	ExecWholeCommand bool
	// StreamTime is how long after an exec or attach was answered its websocket can be
	// opened; 0 is one minute. Not published.
	StreamTime time.Duration
	// RegistryTrouble answers RegistryErrorResponse to every PUT.
	RegistryTrouble bool
}

// Shortage is a lack of machines.
type Shortage struct {
	// Location is the region concerned; empty is every region.
	Location string
	// CPU (vCPU) and MemoryGB are the smallest sizes that find no machine; a
	// group that reaches either is refused. Zero both refuses every size.
	CPU, MemoryGB float64
	// SpotOnly leaves Regular groups alone.
	SpotOnly bool
	// Late accepts the deployment and lets it fail, with the event
	// InsufficientCapacity (as in the operation that issue 2404 of
	// Azure/Azure-Landing-Zones quotes); otherwise the PUT is refused.
	Late bool
}

// ARMLimits are the token buckets of Azure Resource Manager, each per
// subscription, principal and kind of request.
type ARMLimits struct {
	Reads, Writes, Deletes Bucket
}

// Bucket is one token bucket. The zero Bucket does not limit.
type Bucket struct {
	Size            int
	RefillPerSecond float64
}

// ProviderLimits are the rates of the container instance service itself, per
// subscription and region, for creates and for deletes alike.
type ProviderLimits struct {
	PerFiveMinutes, PerHour int
}

// PublishedARMLimits are the documented buckets (Azure Resource Manager request
// limits: 250 reads and 25/s; 200 writes or deletes and 10/s).
func PublishedARMLimits() ARMLimits {
	return ARMLimits{Reads: Bucket{250, 25}, Writes: Bucket{200, 10}, Deletes: Bucket{200, 10}}
}

// PublishedProviderLimits are the documented rates of container group creates
// and deletes, 100 in five minutes and 300 an hour.
func PublishedProviderLimits() ProviderLimits {
	return ProviderLimits{PerFiveMinutes: 100, PerHour: 300}
}

// PublishedQuota is the documented default quota of a region.
func PublishedQuota() map[string]int {
	return map[string]int{usageGroups: 100, usageCores: 100, usageSpotCores: 10}
}

// Names of usages, as the service reports them.
const (
	usageGroups             = "ContainerGroups"
	usageConfidentialGroups = "ConfidentialContainerGroups"
	usageCores              = "StandardCores"
	usageSpotCores          = "StandardSpotCores"
	usageConfidentialCores  = "ConfidentialCores"
)

const provisioningTimeout = 30 * time.Minute

func (s Settings) pageSize() int {
	if s.PageSize <= 0 {
		return 100
	}
	return s.PageSize
}

func (s Settings) evictionTime() time.Duration {
	if s.EvictionTime <= 0 {
		return time.Minute
	}
	return s.EvictionTime
}

func (s Settings) cachedImages() []string {
	if s.CachedImages == nil {
		return []string{"ubuntu:16.04", "alpine:3.6"}
	}
	return s.CachedImages
}

func (s Settings) transitTime() time.Duration {
	if s.TransitTime == 0 {
		return 10 * time.Second
	}
	return s.TransitTime
}

func (s Settings) stopGrace() time.Duration {
	if s.StopGrace <= 0 {
		return 30 * time.Second
	}
	return s.StopGrace
}

func (s Settings) metricDelay() time.Duration {
	if s.MetricDelay == 0 {
		return 2 * time.Minute
	}
	return max(0, s.MetricDelay)
}

func (s Settings) operationRetention() time.Duration {
	if s.OperationRetention <= 0 {
		return time.Hour
	}
	return s.OperationRetention
}

func (s Settings) streamTime() time.Duration {
	if s.StreamTime <= 0 {
		return time.Minute
	}
	return s.StreamTime
}

func (s Settings) quota(usage string) int {
	if limit, ok := s.Quota[usage]; ok {
		return limit
	}
	return math.MaxInt32
}
