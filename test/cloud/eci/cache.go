package eci

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

// imageCache is one image cache of the account. Its life is a function of the
// time: Preparing while its images are pulled, Creating while the snapshot is
// made, then Ready, or Failed after the pull. An update shows Updating in place of
// the first two, and UpdateFailed.
type imageCache struct {
	id, name, region, resourceGroup string
	containerGroup                  string
	snapshot, flashSnapshot         string
	images                          []string
	gib                             int
	tags                            []keyValue
	elimination                     string
	flash                           bool
	retention                       time.Duration // from the creation on; zero is for ever

	created, begun time.Time // begun is when the present images were asked for
	pull, snap     time.Duration
	updating       bool     // begun is that of an update
	previous       []string // the images before it
	failure        string   // why the images cannot be pulled; empty if they can
	matched        time.Time
}

const (
	cachePreparing    = "Preparing"
	cacheCreating     = "Creating"
	cacheReady        = "Ready"
	cacheFailed       = "Failed"
	cacheUpdating     = "Updating"
	cacheUpdateFailed = "UpdateFailed"
)

// failedCacheKept is the published retention of a cache that could not be made.
const failedCacheKept = 24 * time.Hour

func (c *imageCache) status(now time.Time) string {
	age := now.Sub(c.begun)
	pulled := age >= c.pull
	snapped := age >= c.pull+c.snap || (c.flash && pulled)
	switch {
	case c.updating && pulled && c.failure != "":
		return cacheUpdateFailed
	case c.updating && !snapped:
		return cacheUpdating
	case !pulled:
		return cachePreparing
	case c.failure != "":
		return cacheFailed
	case !snapped:
		return cacheCreating
	default:
		return cacheReady
	}
}

// expires is when the cache is deleted by itself; zero is never.
func (c *imageCache) expires(now time.Time) time.Time {
	switch {
	case c.status(now) == cacheFailed:
		return c.begun.Add(c.pull).Add(failedCacheKept)
	case c.retention > 0:
		return c.created.Add(c.retention)
	default:
		return time.Time{}
	}
}

// settleCaches deletes caches whose time is over, and gives those whose update
// failed their images back.
func (s *Server) settleCaches() {
	now := s.fleet.Now()
	for id, c := range s.caches {
		if at := c.expires(now); !at.IsZero() && !now.Before(at) {
			delete(s.caches, id)
		}
		if c.status(now) == cacheUpdateFailed && c.previous != nil {
			c.images, c.previous = c.previous, nil
		}
	}
}

func (s *Server) usedCaches(region string) int {
	n := 0
	for _, c := range s.caches {
		if c.region == region {
			n++
		}
	}
	return n
}

// createCache is CreateImageCache.
func (s *Server) createCache(c *call) (map[string]any, *apiError) {
	if err := checkCache(c.members); err != nil {
		return nil, err
	}
	return s.once(c, func() (map[string]any, *apiError) {
		req := c.members
		if s.debt != nil {
			return nil, publishedRefusal(c.action, "Account.Arrearage")
		}
		region, _ := s.region(req.str("RegionId"))
		if _, err := s.place(region, req); err != nil {
			return nil, err
		}
		if s.usedCaches(region.ID) >= s.opts.MaxImageCaches && !s.dropUnused(region.ID) {
			return nil, publishedRefusal(c.action, "QuotaExceeded", "The image cache")
		}
		now := s.fleet.Now()
		cache := &imageCache{
			id: newID("imc"), region: region.ID, containerGroup: newID("eci"), snapshot: newID("s"),
			created: now, gib: 20,
		}
		if req.boolean("Flash") {
			cache.flashSnapshot = newID("s")
		}
		cache.read(req)
		s.begin(cache, req.strings("Image"))
		s.caches[cache.id] = cache
		c.target = cache.id
		return map[string]any{"ImageCacheId": cache.id, "ContainerGroupId": cache.containerGroup}, nil
	})
}

// read takes over the members that a request sends.
func (c *imageCache) read(req *member) {
	for path, to := range map[string]*string{
		"ImageCacheName": &c.name, "ResourceGroupId": &c.resourceGroup, "EliminationStrategy": &c.elimination,
	} {
		if req.has(path) {
			*to = req.str(path)
		}
	}
	if req.has("ImageCacheSize") {
		c.gib = req.integer("ImageCacheSize")
	}
	if req.has("RetentionDays") {
		c.retention = time.Duration(req.integer("RetentionDays")) * 24 * time.Hour
	}
	if req.has("Flash") {
		c.flash = req.boolean("Flash")
	}
	if req.has("Tag") {
		c.tags = tagsOf(req.list("Tag"))
	}
}

// begin starts to make a cache of images.
func (s *Server) begin(c *imageCache, images []string) {
	c.images, c.begun, c.failure = images, s.fleet.Now(), ""
	c.pull, c.snap = 0, s.opts.SnapshotTime
	for _, image := range images {
		verdict := sim.ImageOK
		if s.opts.Sim.Images != nil {
			verdict = s.opts.Sim.Images(image)
		}
		switch verdict {
		case sim.ImageSlow:
			c.pull += s.opts.Sim.Timing.SlowPull
			continue
		case sim.ImageNotFound, sim.ImageDenied:
			c.failure = fmt.Sprintf("Failed to pull image %q.", image)
		}
		c.pull += s.opts.Sim.Timing.Pull
	}
}

// dropUnused makes room for a cache: of those that may be eliminated, the least
// recently matched one goes.
func (s *Server) dropUnused(region string) bool {
	var oldest *imageCache
	used := func(c *imageCache) time.Time {
		if c.matched.IsZero() {
			return c.created
		}
		return c.matched
	}
	for _, c := range s.caches {
		if c.region == region && c.elimination == "LRU" && (oldest == nil || used(c).Before(used(oldest))) {
			oldest = c
		}
	}
	if oldest == nil {
		return false
	}
	delete(s.caches, oldest.id)
	return true
}

// checkCache applies the documented rules beyond the published shape.
func checkCache(req *member) *apiError {
	if err := oneOf(req, "EliminationStrategy", []string{"LRU"}); err != nil {
		return err
	}
	if err := oneOf(req, "OsType", []string{"Linux", "Windows"}); err != nil {
		return err
	}
	for _, path := range []string{"ImageCacheSize", "RetentionDays", "StandardCopyCount", "FlashCopyCount"} {
		if req.has(path) && req.integer(path) < 1 {
			return invalidParameter("%s must be at least 1.", path)
		}
	}
	if n, limit := len(req.list("Tag")), published().facts.Limits.Tags; n > limit {
		return invalidParameter("There are %d elements of Tag; at most %d are allowed.", n, limit)
	}
	for _, tag := range req.list("Tag") {
		if err := checkTag(tag); err != nil {
			return err
		}
	}
	return checkCredentials(req.list("ImageRegistryCredential"))
}

// findCache returns the cache that ImageCacheId names, in the request's region.
func (s *Server) findCache(c *call) (*imageCache, *apiError) {
	id := c.members.str("ImageCacheId")
	c.target = id
	cache := s.caches[id]
	if cache == nil || cache.region != c.members.str("RegionId") {
		return nil, refuse(s.opts.MissingGroup.Status, s.opts.MissingGroup.Code, "The image cache %q does not exist.", clip(id))
	}
	return cache, nil
}

// updateCache is UpdateImageCache, for a cache that is not at work.
func (s *Server) updateCache(c *call) (map[string]any, *apiError) {
	if err := checkCache(c.members); err != nil {
		return nil, err
	}
	return s.once(c, func() (map[string]any, *apiError) {
		cache, err := s.findCache(c)
		if err != nil {
			return nil, err
		}
		switch status := cache.status(s.fleet.Now()); status {
		case cacheReady, cacheUpdateFailed:
		default:
			return nil, publishedRefusal(c.action, "ImageCache.IncorrectStatus", "The image cache is "+status+"; only one that is Ready or UpdateFailed can be updated.")
		}
		after := *cache
		after.read(c.members)
		images := c.members.strings("Image")
		newImages := images != nil && !slices.Equal(images, cache.images)
		if !newImages && after.equal(cache) {
			return nil, publishedRefusal(c.action, "NoNeedUpdate")
		}
		if newImages {
			after.updating, after.previous = true, cache.images
			s.begin(&after, images)
		}
		*cache = after
		return map[string]any{}, nil
	})
}

// equal reports whether a request would change nothing but the images.
func (c *imageCache) equal(o *imageCache) bool {
	return c.name == o.name && c.resourceGroup == o.resourceGroup && c.elimination == o.elimination && c.gib == o.gib &&
		c.retention == o.retention && c.flash == o.flash && slices.Equal(c.tags, o.tags)
}

// removeCache is DeleteImageCache. Groups that use the cache have its images.
func (s *Server) removeCache(c *call) (map[string]any, *apiError) {
	return s.once(c, func() (map[string]any, *apiError) {
		cache, err := s.findCache(c)
		if err != nil {
			return nil, err
		}
		delete(s.caches, cache.id)
		return map[string]any{}, nil
	})
}

// cachedImages are the images that a group's machine has before any pull: those of
// the cache that ImageSnapshotId names, or with AutoMatchImageCache those of the
// cache that holds most of the group's.
func (s *Server) cachedImages(g *group) ([]string, *apiError) {
	const action = "CreateContainerGroup"
	now := s.fleet.Now()
	if id := g.req.str("ImageSnapshotId"); id != "" {
		for _, c := range s.caches {
			if c.region != g.region || !slices.Contains([]string{c.id, c.snapshot, c.flashSnapshot}, id) {
				continue
			}
			if status := c.status(now); status != cacheReady {
				return nil, publishedRefusal(action, "ImageSnapshot.IncorrectStatus", "The image cache is "+status+", not Ready.")
			}
			c.matched = now
			return c.images, nil
		}
		return nil, publishedRefusal(action, "ImageSnapshot.NotFound")
	}
	if !g.req.boolean("AutoMatchImageCache") && g.req.str("ImageAccelerateMode") != "imc" {
		return nil, nil
	}
	var wanted []string
	for _, c := range slices.Concat(g.req.list("InitContainer"), g.req.list("Container")) {
		wanted = append(wanted, c.str("Image"))
	}
	best := s.bestMatch(g.region, wanted)
	if best == nil {
		return nil, nil
	}
	best.matched = now
	return best.images, nil
}

// bestMatch is the Ready cache of a region that holds most of the images, of these
// the newest; nil if none holds any.
func (s *Server) bestMatch(region string, images []string) *imageCache {
	list := s.matching(region, images)
	if len(list) == 0 {
		return nil
	}
	return list[0]
}

// matching are the Ready caches of a region that hold any of the images, the best
// first.
func (s *Server) matching(region string, images []string) []*imageCache {
	var list []*imageCache
	for _, c := range s.caches {
		if c.region == region && c.status(s.fleet.Now()) == cacheReady && c.holds(images) > 0 {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b *imageCache) int {
		return cmp.Or(cmp.Compare(b.holds(images), a.holds(images)), b.created.Compare(a.created), strings.Compare(a.id, b.id))
	})
	return list
}

// holds is how many of the images the cache has.
func (c *imageCache) holds(images []string) int {
	n := 0
	for _, image := range images {
		if slices.Contains(c.images, image) {
			n++
		}
	}
	return n
}

type imageCacheView struct {
	ImageCacheID        string `json:"ImageCacheId"`
	ImageCacheName      string
	RegionID            string `json:"RegionId"`
	Status, Progress    string
	Images              []string
	ImageCacheSize      int
	ContainerGroupID    string `json:"ContainerGroupId"`
	SnapshotID          string `json:"SnapshotId,omitempty"`
	FlashSnapshotID     string `json:"FlashSnapshotId,omitempty"`
	ResourceGroupID     string `json:"ResourceGroupId,omitempty"`
	EliminationStrategy string `json:",omitempty"`
	CreationTime        string
	ExpireDateTime      string `json:",omitempty"`
	LastMatchedTime     string `json:",omitempty"`
	Tags                []keyValue
	Events              []eventView
}

// view is the cache at a time.
func (c *imageCache) view(now time.Time) imageCacheView {
	v := imageCacheView{
		ImageCacheID: c.id, ImageCacheName: c.name, RegionID: c.region, Status: c.status(now), Images: c.images, ImageCacheSize: c.gib,
		ContainerGroupID: c.containerGroup, ResourceGroupID: c.resourceGroup, EliminationStrategy: c.elimination,
		CreationTime: wireTime(c.created), ExpireDateTime: wireTime(c.expires(now)), LastMatchedTime: wireTime(c.matched),
		Tags: append([]keyValue{}, c.tags...), Events: []eventView{},
	}
	event := func(kind, reason, message string, at time.Time) {
		v.Events = append(v.Events, eventView{
			Type: kind, Name: c.name + "." + reason, Reason: reason, Message: message, Count: 1,
			FirstTimestamp: wireTime(at), LastTimestamp: wireTime(at),
		})
	}
	event(sim.Normal, "Started", "Successfully check image cache resource.", c.begun)
	switch v.Status {
	case cacheReady:
		v.Progress = "100%"
	case cachePreparing:
		v.Progress = "0%"
	case cacheFailed, cacheUpdateFailed:
		event(sim.Warning, "Failed", c.failure, c.begun.Add(c.pull))
	default:
		v.Progress = "50%"
	}
	if v.Progress != "0%" && v.Status != cacheFailed {
		v.FlashSnapshotID = c.flashSnapshot
	}
	if v.Status == cacheReady && now.Sub(c.begun) >= c.pull+c.snap {
		v.SnapshotID, v.FlashSnapshotID = c.snapshot, ""
	}
	return v
}

// describeCaches is DescribeImageCaches. With MatchImage it is those that hold any
// of the images, or with ImageFullMatch all of them, at most ImageMatchCountRequest.
func (s *Server) describeCaches(c *call) (map[string]any, *apiError) {
	req := c.members
	limit, err := pageLimit(req)
	if err != nil {
		return nil, err
	}
	var all []*imageCache
	match := req.strings("MatchImage")
	if match != nil {
		all = s.matching(req.str("RegionId"), match)
		if req.boolean("ImageFullMatch") {
			all = slices.DeleteFunc(all, func(c *imageCache) bool { return c.holds(match) < len(match) })
		}
		if n := req.integer("ImageMatchCountRequest"); n > 0 && len(all) > n {
			all = all[:n]
		}
	} else {
		for _, cache := range s.caches {
			if cache.region == req.str("RegionId") {
				all = append(all, cache)
			}
		}
	}
	all = slices.DeleteFunc(all, func(c *imageCache) bool { return !c.selected(req) })
	total := len(all)
	page, next, err := pageBy(all, func(c *imageCache) string { return fmt.Sprintf("%020d %s", c.created.UnixNano(), c.id) }, req, limit)
	if err != nil {
		return nil, err
	}
	views := make([]imageCacheView, 0, len(page))
	for _, cache := range page {
		views = append(views, cache.view(s.fleet.Now()))
	}
	return map[string]any{"TotalCount": total, "NextToken": next, "ImageCaches": views}, nil
}

// selected applies the filters of the request; all must hold. ImageCacheId may be
// one id or a JSON list of them.
func (c *imageCache) selected(req *member) bool {
	var ids []string
	if text := req.str("ImageCacheId"); json.Unmarshal([]byte(text), &ids) != nil {
		ids = []string{text}
	}
	if req.str("ImageCacheId") != "" && !slices.Contains(ids, c.id) {
		return false
	}
	for path, is := range map[string]string{"ImageCacheName": c.name, "SnapshotId": c.snapshot, "ResourceGroupId": c.resourceGroup} {
		if want := req.str(path); want != "" && want != is {
			return false
		}
	}
	if want := req.str("Image"); want != "" && !slices.ContainsFunc(c.images, func(image string) bool { return strings.Contains(image, want) }) {
		return false
	}
	return tagged(c.tags, req.list("Tag"))
}
