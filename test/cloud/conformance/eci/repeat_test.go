package eci

import (
	"slices"
	"testing"
	"time"
)

func TestE24ClientToken(t *testing.T) {
	c := row(t)
	token := nonce()
	id := c.create("ClientToken", token)
	// The signature's members differ between two sendings anyway.
	for range 2 {
		if again := c.ok("CreateContainerGroup", c.small("ClientToken", token)...).ContainerGroupID; again != id {
			t.Errorf("the token gave %s and then %s", id, again)
		}
	}
	if n := c.ok("DescribeContainerGroups", "ContainerGroupIds", idList(id)).TotalCount; n != 1 {
		t.Errorf("%d groups", n)
	}
	for _, other := range [][]string{
		{"Cpu", "4", "Memory", "8"}, {"ContainerGroupName", "another"}, {"Container.1.Image", *image + "x"}, {"Tag.1.Key", "k"},
	} {
		c.refused(400, "IdempotentParameterMismatch", "CreateContainerGroup", c.small(append(other, "ClientToken", token)...)...)
	}
	if other := c.create("ClientToken", nonce()); other == id {
		t.Errorf("another token gave the same group")
	}
	upper := "A" + token[1:]
	lower := "a" + token[1:]
	if c.create("ClientToken", upper) == c.create("ClientToken", lower) {
		t.Error("tokens must be told apart by case")
	}
	// A refusal is not the result of a token.
	c.refused(400, "InvalidParameter.CPU.Memory", "CreateContainerGroup", c.small("ClientToken", token+"2", "Cpu", "1000")...)
	c.create("ClientToken", token+"2")

	c.waitStatus(id, "Running")
	restart := []string{"ContainerGroupId", id, "ClientToken", nonce()}
	c.ok("RestartContainerGroup", restart...)
	c.ok("RestartContainerGroup", restart...) // without the token, it would be busy
	c.waitStatus(id, "Running")
	update := []string{"ContainerGroupId", id, "ClientToken", nonce(), "Container.1.Name", "main", "Container.1.Image", *image + "x"}
	c.ok("UpdateContainerGroup", update...)
	c.ok("UpdateContainerGroup", update...)
	c.waitStatus(id, "Running")
	remove := []string{"ContainerGroupId", id, "ClientToken", nonce()}
	c.ok("DeleteContainerGroup", remove...)
	c.ok("DeleteContainerGroup", remove...)

	part(t, "retention", "a clock", settings{tokenRetention: time.Hour}, func(c *cloud) {
		id := c.create("ClientToken", token)
		c.pass(time.Hour)
		if c.create("ClientToken", token) != id {
			t.Error("the token is forgotten within its retention")
		}
		c.pass(time.Second)
		if c.create("ClientToken", token) == id {
			t.Error("the token is known after its retention")
		}
	})
}

func TestE25TokenSurvivesLostAnswer(t *testing.T) {
	c := labRow(t, "faults")
	for _, fault := range []Fault{{Cut: true}, {Status: 500, Code: "InternalError"}, {Status: 502, Body: "Bad Gateway"}} {
		fault.Action, fault.AfterEffect = "CreateContainerGroup", true
		token := nonce()
		before := c.ok("DescribeContainerGroups").TotalCount
		c.lab.Break(fault)
		if a := c.do("CreateContainerGroup", c.small("ClientToken", token)...); a.err == nil && a.status == 200 {
			t.Fatalf("the answer %s was not lost", a.raw)
		}
		all := c.ok("DescribeContainerGroups")
		if all.TotalCount != before+1 {
			t.Fatalf("%d groups after the lost answer, want %d", all.TotalCount, before+1)
		}
		id := c.create("ClientToken", token)
		if !slices.ContainsFunc(all.ContainerGroups, func(g group) bool { return g.ContainerGroupID == id }) {
			t.Errorf("the retry made another group, %s", id)
		}
		if n := c.ok("DescribeContainerGroups").TotalCount; n != before+1 {
			t.Errorf("%d groups after the retry, want %d", n, before+1)
		}
	}
	// A call that fails before its effect leaves nothing.
	token := nonce()
	before := c.ok("DescribeContainerGroups").TotalCount
	c.lab.Break(Fault{Action: "CreateContainerGroup", Cut: true})
	if a := c.do("CreateContainerGroup", c.small("ClientToken", token)...); a.err == nil {
		t.Fatalf("answer %s", a.raw)
	}
	if n := c.ok("DescribeContainerGroups").TotalCount; n != before {
		t.Errorf("%d groups, want %d", n, before)
	}
	c.create("ClientToken", token)
}

func TestE26DryRun(t *testing.T) {
	c := row(t)
	name := "dry-" + nonce()
	dry := []string{"ContainerGroupName", name, "DryRun", "true"}
	c.refused(400, "DryRunOperation", "CreateContainerGroup", c.small(dry...)...)
	c.refused(400, "InvalidParameter.CPU.Memory", "CreateContainerGroup", c.small(append(dry, "Cpu", "1000")...)...)
	c.refused(400, "InvalidParameter", "CreateContainerGroup", c.small(append(dry, "RestartPolicy", "x")...)...)
	if n := c.ok("DescribeContainerGroups", "ContainerGroupName", name).TotalCount; n != 0 {
		t.Errorf("a dry run made %d groups", n)
	}
	// Nor is its token used up.
	token := nonce()
	c.refused(400, "DryRunOperation", "CreateContainerGroup", c.small(append(dry, "ClientToken", token)...)...)
	c.create("DryRun", "false", "ClientToken", token)
	part(t, "takes nothing", "stock and a small vSwitch", settings{}, func(c *cloud) {
		tiny := c.lab.VSwitches()[2]
		for range tiny.Addresses + 2 {
			c.refused(400, "DryRunOperation", "CreateContainerGroup", c.small("VSwitchId", tiny.ID, "DryRun", "true")...)
		}
		c.lab.Shortages(Shortage{})
		c.refused(403, "OperationDenied.NoStock", "CreateContainerGroup", c.small("DryRun", "true")...)
		if bills := c.lab.Bills(); len(bills) != 0 {
			t.Errorf("bills %v", bills)
		}
	})
}
