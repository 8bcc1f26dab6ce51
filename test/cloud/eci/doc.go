// Package eci is Alibaba Cloud Elastic Container Instance, Eci 2018-08-08,
// emulated at the wire: RPC-style requests signed with HMAC-SHA1, the published
// members, limits, sizes, states and error codes. Real SDKs can be pointed at it.
//
// It serves the actions on container groups, image caches and tags, and those for
// prices, stock, regions and usage. Other published actions answer 501
// EmulatorNotImplemented, so that a client cannot take the emulator's gap for an
// answer of the service.
//
// Whatever is not published is a setting of Options. Outside the service's own
// paths, sim.BillingPath serves the cloud's billing record as JSON.
package eci
