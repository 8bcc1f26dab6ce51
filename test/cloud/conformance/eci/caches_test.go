package eci

import (
	"slices"
	"strconv"
	"testing"
	"time"
)

// cache makes an image cache that is removed at the end.
func (c *cloud) cache(args ...string) string {
	c.t.Helper()
	a := c.ok("CreateImageCache", append(append([]string{"ImageCacheName", "conformance", "Image.1", *image}, c.common...), args...)...)
	if a.ImageCacheID == "" || a.ContainerGroupID == "" {
		c.t.Fatalf("answer %s", a.raw)
	}
	if c.lab == nil {
		c.t.Cleanup(func() { c.do("DeleteImageCache", "ImageCacheId", a.ImageCacheID) })
	}
	return a.ImageCacheID
}

func (c *cloud) findCache(id string) (imageCache, bool) {
	c.t.Helper()
	a := c.ok("DescribeImageCaches", "ImageCacheId", id)
	if len(a.ImageCaches) == 0 {
		return imageCache{}, false
	}
	return a.ImageCaches[0], true
}

func (c *cloud) waitCache(id, want string, before ...string) imageCache {
	c.t.Helper()
	c.until("image cache "+id+" is "+want, 20*time.Minute, func() bool {
		o, _ := c.findCache(id)
		if o.Status != want && !slices.Contains(before, o.Status) {
			c.t.Fatalf("image cache is %q on its way to %s", o.Status, want)
		}
		return o.Status == want
	})
	o, _ := c.findCache(id)
	return o
}

func TestE49ImageCaches(t *testing.T) {
	c := row(t)
	usage := func(c *cloud) (used, most float64) {
		c.t.Helper()
		a := c.ok("ListUsage").Attributes
		return a["UsedImageCacheCount"], a["MaxImageCacheCount"]
	}
	pulls := func(c *cloud, args ...string) bool {
		c.t.Helper()
		return slices.Contains(c.describe(c.running(args...)).reasons(), "Pulling")
	}
	usedBefore, most := usage(c)
	if most <= 0 {
		t.Errorf("MaxImageCacheCount %g", most)
	}
	id := c.cache("Tag.1.Key", "kind", "Tag.1.Value", "test")
	if used, _ := usage(c); used != usedBefore+1 {
		t.Errorf("%g caches in use, want %g", used, usedBefore+1)
	}
	if a := c.do("CreateContainerGroup", c.small("ImageSnapshotId", id)...); a.status != 400 || a.Code != "ImageSnapshot.IncorrectStatus" {
		t.Errorf("a cache that is not Ready: answer %d %s", a.status, a.raw)
	}
	o := c.waitCache(id, "Ready", "Preparing", "Creating")
	if o.ImageCacheName != "conformance" || o.SnapshotID == "" || o.Progress != "100%" || !slices.Equal(o.Images, []string{*image}) || len(o.Tags) != 1 {
		t.Errorf("cache %+v", o)
	}
	if !pulls(c) || pulls(c, "ImageSnapshotId", id) || pulls(c, "ImageSnapshotId", o.SnapshotID) || pulls(c, "AutoMatchImageCache", "true") {
		t.Error("a group must pull its image, and with the cache it must not")
	}
	if o, _ := c.findCache(id); o.LastMatchedTime == "" {
		t.Errorf("cache %+v was matched", o)
	}
	c.refused(404, "ImageSnapshot.NotFound", "CreateContainerGroup", c.small("ImageSnapshotId", "imc-none")...)
	for _, tt := range []struct {
		args []string
		want bool
	}{
		{[]string{"ImageCacheName", "conformance", "ImageCacheId", id}, true}, {[]string{"ImageCacheName", "none"}, false},
		{[]string{"SnapshotId", o.SnapshotID}, true}, {[]string{"SnapshotId", "s-none"}, false},
		{[]string{"MatchImage.1", *image, "ImageCacheId", id}, true}, {[]string{"MatchImage.1", "none:1"}, false},
		{[]string{"Image", *image, "ImageCacheId", id}, true}, {[]string{"Image", "none"}, false},
		{[]string{"Tag.1.Key", "kind", "Tag.1.Value", "test", "ImageCacheId", id}, true}, {[]string{"Tag.1.Key", "kind", "Tag.1.Value", "other"}, false},
		{[]string{"ResourceGroupId", "rg-none"}, false},
	} {
		a := c.ok("DescribeImageCaches", tt.args...)
		if (len(a.ImageCaches) == 1) != tt.want || a.TotalCount != len(a.ImageCaches) {
			t.Errorf("%v: %s", tt.args, a.raw)
		}
	}
	c.refused(400, "NoNeedUpdate", "UpdateImageCache", "ImageCacheId", id, "Image.1", *image)
	other := *image + "-other"
	c.each("update", func(c *cloud) {
		if c.lab == nil {
			other = *image // of the real registry, only this image is known
			return
		}
		c.ok("UpdateImageCache", "ImageCacheId", id, "Image.1", other)
		c.refused(400, "ImageCache.IncorrectStatus", "UpdateImageCache", "ImageCacheId", id, "Image.1", *image)
		if o := c.waitCache(id, "Ready", "Updating"); !slices.Equal(o.Images, []string{other}) {
			c.t.Errorf("cache %+v", o)
		}
		c.ok("UpdateImageCache", "ImageCacheId", id, "Image.1", "registry.invalid/none:1")
		if o := c.waitCache(id, "UpdateFailed", "Updating"); !slices.Equal(o.Images, []string{other}) {
			c.t.Errorf("cache %+v", o)
		}
	})
	c.ok("DeleteImageCache", "ImageCacheId", id)
	if _, ok := c.findCache(id); ok {
		t.Error("the cache is still there")
	}
	if a := c.do("DeleteImageCache", "ImageCacheId", id); a.status/100 != 4 {
		t.Errorf("a missing cache: answer %d %s", a.status, a.raw)
	}
	token := nonce()
	if first, again := c.cache("ClientToken", token), c.cache("ClientToken", token); first != again {
		t.Error("the token made two caches")
	}
	c.refused(400, "InvalidParameter", "CreateImageCache", "ImageCacheName", "x", "Image.1", *image, "EliminationStrategy", "FIFO")

	part(t, "times", "a clock", settings{}, func(c *cloud) {
		begin := c.now()
		id := c.cache("RetentionDays", "1")
		flash := c.cache("Flash", "true")
		c.waitCache(flash, "Ready", "Preparing")
		if o, _ := c.findCache(id); o.Status != "Creating" {
			t.Errorf("an ordinary cache is %s once an instant one is Ready", o.Status)
		}
		c.waitCache(id, "Ready", "Creating")
		if took := c.now().Sub(begin); took < time.Minute {
			t.Errorf("a snapshot took %s", took)
		}
		cold := c.waitStatus(c.create(), "Running")
		warm := c.waitStatus(c.create("AutoMatchImageCache", "true"), "Running")
		if warm >= cold {
			t.Errorf("a start takes %s with a cache and %s without", warm, cold)
		}
		o, _ := c.findCache(id)
		expires, err := time.Parse(timeFormat, o.ExpireDateTime)
		if err != nil {
			t.Fatal(err)
		}
		c.pass(expires.Sub(c.now()) - time.Second)
		if _, ok := c.findCache(id); !ok {
			t.Error("the cache is gone before its time")
		}
		c.pass(time.Second)
		if _, ok := c.findCache(id); ok {
			t.Error("the cache has outlived its retention")
		}
	})
	part(t, "failed", "a clock", settings{}, func(c *cloud) {
		id := c.cache("Image.2", "registry.invalid/none:1")
		c.waitCache(id, "Failed", "Preparing")
		c.refused(400, "ImageSnapshot.IncorrectStatus", "CreateContainerGroup", c.small("ImageSnapshotId", id)...)
		c.pass(24*time.Hour - 30*time.Second)
		if _, ok := c.findCache(id); !ok {
			t.Error("a failed cache is gone within a day")
		}
		c.pass(30 * time.Second)
		if _, ok := c.findCache(id); ok {
			t.Error("a failed cache stays longer than a day")
		}
	})
	part(t, "best match", "several caches", settings{}, func(c *cloud) {
		two := c.cache("Image.1", "a:1", "Image.2", "b:1")
		c.pass(time.Second)
		one := c.cache("Image.1", "a:1") // newer, with less
		c.waitCache(one, "Ready", "Preparing", "Creating")
		c.waitCache(two, "Ready", "Preparing", "Creating")
		g := c.describe(c.running("AutoMatchImageCache", "true", "Container.1.Image", "a:1", "Container.2.Name", "second", "Container.2.Image", "b:1"))
		if slices.Contains(g.reasons(), "Pulling") {
			t.Errorf("events %v though one cache has both images", g.reasons())
		}
		match := []string{"MatchImage.1", "a:1", "MatchImage.2", "b:1"}
		if a := c.ok("DescribeImageCaches", append(match, "ImageFullMatch", "true")...); len(a.ImageCaches) != 1 || a.ImageCaches[0].ImageCacheID != two {
			t.Errorf("full match: %s", a.raw)
		}
		if a := c.ok("DescribeImageCaches", match...); len(a.ImageCaches) != 2 {
			t.Errorf("any match: %s", a.raw)
		}
	})
	part(t, "quota", "a quota", settings{maxImageCaches: 3}, func(c *cloud) {
		old := c.cache("EliminationStrategy", "LRU")
		c.pass(time.Minute)
		young := c.cache("EliminationStrategy", "LRU", "Image.1", "b:1")
		c.cache()
		if used, most := usage(c); used != 3 || most != 3 {
			t.Errorf("usage %g of %g", used, most)
		}
		c.waitCache(young, "Ready", "Preparing", "Creating")
		c.create("ImageSnapshotId", old) // now it is the more recently used
		c.pass(time.Second)
		c.cache()
		if _, ok := c.findCache(young); ok {
			t.Error("the least recently used cache stays")
		}
		if _, ok := c.findCache(old); !ok {
			t.Error("a more recently used cache is gone")
		}
		c.cache()
		c.refused(403, "QuotaExceeded", "CreateImageCache", "ImageCacheName", "x", "Image.1", *image)
		if used, _ := usage(c); used != 3 {
			t.Errorf("%g caches in use", used)
		}
	})
	part(t, "pages", "many caches", settings{}, func(c *cloud) {
		var ids, got []string
		for i := range 5 {
			ids = append(ids, c.cache("ImageCacheName", "c"+strconv.Itoa(i)))
		}
		pages := 0
		for token := ""; pages == 0 || token != ""; pages++ {
			a := c.ok("DescribeImageCaches", "Limit", "2", "NextToken", token)
			for _, o := range a.ImageCaches {
				got = append(got, o.ImageCacheID)
			}
			token = a.NextToken
		}
		if pages != 3 || !slices.Equal(sorted(got...), sorted(ids...)) {
			t.Errorf("%d pages have %v", pages, got)
		}
	})
}
