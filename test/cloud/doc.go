// Package cloud is the home of emulated clouds that speak their real wire
// protocols on loopback, so that the vendors' own SDKs can be pointed at them.
//
//   - sim is the life of a container group, independent of any wire format,
//     and the record of what each cloud would have billed.
//   - eci serves Alibaba Cloud Elastic Container Instance (Eci 2018-08-08).
//   - aci serves Azure Container Instances.
//   - conformance holds what is published of both services as tests in raw HTTP,
//     which can be pointed at the real ones.
//
// The emulators follow the published facts of the services and refuse what the
// services refuse. They share no code with the providers that talk to them.
package cloud
