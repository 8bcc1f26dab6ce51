// Package aci holds a service to the published behaviour of Azure Container
// Instances, api-version 2023-05-01: one test for each row of the table of
// conformance (A01 and on), spoken in raw HTTP and, where a row is about them, by
// Azure's own SDKs. It is written from the Swagger, the documentation and public
// recordings, and knows neither a client nor an emulator; only emulator_test.go
// does, which starts the emulated cloud that is tested by default.
//
// The tests run against the real service with
//
//	go test ./test/cloud/conformance/aci -real
//
// which takes AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET,
// AZURE_SUBSCRIPTION_ID, AZURE_RESOURCE_GROUP and AZURE_LOCATION from the
// environment and makes container groups there, which cost money, and deletes
// them. AZURE_AUTHORITY_HOST, AZURE_RESOURCE_MANAGER and
// AZURE_RESOURCE_MANAGER_AUDIENCE name another cloud than the public one. What
// needs a Lab cannot run there; it is listed at the end as not run.
package aci
