package eci

import (
	"context"
	"time"

	"github.com/autoburst/autoburst/providers/quota"
)

// changes is the quota of creates, and that of deletes: the product limits page
// (help.aliyun.com, eci, product-overview/limits) says bursts of 100 and then 20
// a second. The older page of API quotas says 1000 a minute, which is less than
// the first page allows in the first minute only; where it applies, the account
// learns it.
var changes = quota.Rules{Bucket: quota.Bucket{Burst: 100, PerSecond: 20}}

// perMinute is a quota of the API's flow control (help.aliyun.com,
// api-eci-2018-08-08-quota): calls of the account in any 60 s.
func perMinute(calls int) quota.Rules {
	return quota.Rules{Windows: []quota.Window{{Calls: calls, Length: time.Minute}}}
}

// Plan is the documented request quotas of ECI for the account and region of
// the settings. The actions that the agent does not use yet are there to be known.
func (c *Config) Plan() quota.Plan {
	return quota.Plan{
		Key: Name + "\x00" + c.Region + "\x00" + c.account(),
		Quotas: []quota.Quota{
			{Operation: actionCreate, Rules: changes},
			{Operation: actionDelete, Rules: changes},
			{Operation: actionDescribe, Rules: perMinute(2000)},
			{Operation: actionStatus, Rules: perMinute(10_000)},
			{Operation: actionEvents, Rules: perMinute(10_000)},
			{Operation: actionLog, Rules: perMinute(500)},
			{Operation: actionMetrics, Rules: perMinute(2000)},
			{Operation: actionExec, Rules: perMinute(500)},
		},
		Create: actionCreate, Delete: actionDelete,
	}
}

// account is what tells the account apart from others: its ID, where it is set.
// Else the ID of the access key, which is that of the agents beside this one as a
// rule; a temporary key has another one for each, so then the security group.
func (c *Config) account() string {
	switch {
	case c.AccountID != "":
		return c.AccountID
	case c.temporary:
		return c.SecurityGroupID
	}
	if key, err := c.Credentials(); err == nil && key.SecurityToken == "" {
		return key.AccessKeyID
	}
	return c.SecurityGroupID
}

// priorityOf is the place of a call among those of the same action. The reads
// that say more about themselves do so by their context.
func priorityOf(ctx context.Context, action string) quota.Priority {
	switch action {
	case actionCreate, actionDelete:
		return quota.Confirming
	case actionLog, actionExec:
		return quota.Logging
	}
	return quota.PriorityOf(ctx)
}
