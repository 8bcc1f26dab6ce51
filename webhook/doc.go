// Package webhook is the admission side of Autoburst: it asks package policy
// what to do with a pod that is being created and answers with a JSON patch, and
// it labels a namespace as served in the request that opts it in.
//
// Admission never blocks. An answer is always "allowed"; whatever goes wrong
// (an error, a panic, slow rules, a cold cache, a body that cannot be read)
// admits the object unchanged, with a warning for whoever created it and a count
// in autoburst_webhook_failed_open_total. The elected controller grants later
// what was missed here. The handlers are plain HTTP handlers and not handlers of
// controller-runtime's admission package, because that one answers "denied" to a
// panic, an error and an undecodable body, and an API server honours a denial
// even under failurePolicy Ignore.
//
// Merge only. The patch is derived so that it cannot replace or remove anything
// that the user wrote: see additions.
//
// Nothing is read from the network and nothing is written while a request is
// served; a dry run gets the same patch and counts nothing.
package webhook
