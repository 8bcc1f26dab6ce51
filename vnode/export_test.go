package vnode

// CrowdClient is a fake API server for tests from outside the package.
var CrowdClient = crowdClient
