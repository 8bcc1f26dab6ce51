// Package aci is Azure Container Instances on loopback: the Entra token
// service, the Azure Resource Manager front end and the resource provider
// Microsoft.ContainerInstance (api-version 2023-05-01) over their real wire
// protocols, so that the real Azure SDK runs against it; and the metrics of
// container groups in Azure Monitor (Microsoft.Insights, api-version 2021-05-01).
//
// It follows what Microsoft publishes (the embedded Swagger, documentation,
// public HTTP recordings), not what any client happens to send, and refuses
// what the service refuses. Where nothing is published, a member of Settings
// decides.
//
// The containers' lives come from the package sim.
package aci
