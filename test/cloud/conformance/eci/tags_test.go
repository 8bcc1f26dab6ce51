package eci

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestE50Tags(t *testing.T) {
	c := row(t)
	tags := func(from, n int) []string {
		var out []string
		for i := range n {
			at := "Tag." + strconv.Itoa(i+1)
			out = append(out, at+".Key", "k"+strconv.Itoa(from+i), at+".Value", "v"+strconv.Itoa(from+i))
		}
		return out
	}
	on := func(kind string, ids ...string) []string {
		out := []string{"ResourceType", kind}
		for i, id := range ids {
			out = append(out, "ResourceId."+strconv.Itoa(i+1), id)
		}
		return out
	}
	groups := func(ids ...string) []string { return on("ContainerGroup", ids...) }
	count := func(id string) int { return len(c.describe(id).Tags) }

	a, b := c.running(tags(0, 2)...), c.create()
	c.ok("TagResources", append(groups(a), tags(2, 18)...)...)
	if got := c.status(a); got != "Running" {
		t.Errorf("tags made a group %s", got)
	}
	if n := count(a); n != 20 {
		t.Fatalf("%d tags, want 20", n)
	}
	c.refused(400, "NumberExceed.Tags", "TagResources", append(groups(a), tags(20, 1)...)...)
	c.refused(400, "NumberExceed.Tags", "TagResources", append(groups(b, a), tags(20, 1)...)...)
	c.refused(400, "NumberExceed.Tags", "TagResources", append(groups(b), tags(0, 21)...)...)
	if n, m := count(a), count(b); n != 20 || m != 0 {
		t.Errorf("%d and %d tags after refusals, want 20 and none", n, m)
	}
	c.ok("TagResources", append(groups(a), "Tag.1.Key", "k3", "Tag.1.Value", "new")...)
	if got := c.describe(a).Tags; len(got) != 20 || !slices.Contains(got, tag{"k3", "new"}) || slices.Contains(got, tag{"k3", "v3"}) {
		t.Errorf("tags %v", got)
	}
	for _, key := range []string{"aliyun", "Aliyun.x", "acs:x", "http://x", "a-https://x", strings.Repeat("x", 65)} {
		c.refused(400, "InvalidParameter", "TagResources", append(groups(b), "Tag.1.Key", key)...)
	}
	c.refused(400, "InvalidParameter", "TagResources", append(groups(b), "Tag.1.Key", "k", "Tag.1.Value", strings.Repeat("x", 129))...)
	if r := c.do("TagResources", append(groups(b), "Tag.1.Value", "v")...); r.status != 400 {
		t.Errorf("a tag without a key: answer %d %s", r.status, r.raw)
	}
	c.refused(400, "InvalidParameter", "TagResources", append(on("Pod", b), "Tag.1.Key", "k")...)
	if r := c.do("TagResources", append(groups("eci-none"), "Tag.1.Key", "k")...); r.status/100 != 4 {
		t.Errorf("a missing group: answer %d %s", r.status, r.raw)
	}

	// New tags select at once.
	key := "run-" + nonce()
	c.ok("TagResources", append(groups(b), "Tag.1.Key", key, "Tag.1.Value", "x")...)
	if got := c.ok("DescribeContainerGroups", "Tag.1.Key", key, "Tag.1.Value", "x"); !slices.Equal(got.groupIDs(), []string{b}) {
		t.Errorf("groups %v", got.groupIDs())
	}
	if got := c.ok("DescribeContainerGroupStatus", "Tag.1.Key", key); !slices.Equal(got.dataIDs(), []string{b}) {
		t.Errorf("groups %v", got.dataIDs())
	}

	// Pages of one entry for each tag of each group.
	list := func(args ...string) (entries []string, pages int) {
		t.Helper()
		for token := ""; pages == 0 || token != ""; pages++ {
			r := c.ok("ListTagResources", append([]string{"ResourceType", "ContainerGroup", "NextToken", token}, args...)...)
			for _, e := range r.TagResources {
				if e.ResourceType != "ContainerGroup" {
					t.Errorf("entry %+v", e)
				}
				entries = append(entries, e.ResourceID+" "+e.TagKey+"="+e.TagValue)
			}
			token = r.NextToken
		}
		return entries, pages
	}
	all, pages := list("ResourceId.1", a, "ResourceId.2", b, "ResourceId.3", "eci-none", "Limit", "8")
	slices.Sort(all)
	if len(slices.Compact(all)) != 21 || pages != 3 {
		t.Errorf("%d entries on %d pages, want 21 on 3", len(all), pages)
	}
	if got, _ := list("Tag.1.Key", key); !slices.Equal(got, []string{b + " " + key + "=x"}) {
		t.Errorf("entries %v", got)
	}
	c.refused(400, "InvalidParameter", "ListTagResources", "ResourceType", "ContainerGroup", "NextToken", "no token!")
	c.refused(400, "InvalidParameter", "ListTagResources", "ResourceType", "Pod")
	c.refused(400, "InvalidParameter", "ListTagResources", "ResourceType", "ContainerGroup", "Limit", "x")

	c.ok("UntagResources", append(groups(a, b), "TagKey.1", "k1", "TagKey.2", "none", "All", "true")...)
	if n, m := count(a), count(b); n != 19 || m != 1 {
		t.Errorf("%d and %d tags, want 19 and 1", n, m)
	}
	if r := c.do("UntagResources", groups(a)...); r.status != 400 {
		t.Errorf("no keys and not all: answer %d %s", r.status, r.raw)
	}
	c.ok("UntagResources", append(groups(a), "All", "true")...)
	if n := count(a); n != 0 {
		t.Errorf("%d tags, want none", n)
	}
	part(t, "image caches", "a cache", settings{}, func(c *cloud) {
		id := c.cache()
		c.ok("TagResources", append(on("ImageCache", id), tags(0, 20)...)...)
		c.refused(400, "NumberExceed.Tags", "TagResources", append(on("ImageCache", id), tags(20, 1)...)...)
		if o, _ := c.findCache(id); len(o.Tags) != 20 {
			t.Errorf("%d tags", len(o.Tags))
		}
		if r := c.do("TagResources", append(on("ContainerGroup", id), tags(0, 1)...)...); r.status/100 != 4 {
			t.Errorf("a cache is no group: answer %d %s", r.status, r.raw)
		}
	})
}
