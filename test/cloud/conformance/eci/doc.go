// Package eci is a conformance suite for the Eci 2018-08-08 API of Alibaba Cloud
// Elastic Container Instance: one test for each row of published behaviour, E01
// to E53, in raw HTTP with a signature of its own. It knows no client and, but
// for the Lab that drives it, nothing of the emulated cloud of test/cloud/eci.
//
// Without flags it runs against that emulator, every row. It can be pointed at
// the real service, where it makes and removes small container groups:
//
//	ECI_ACCESS_KEY_ID=… ECI_ACCESS_KEY_SECRET=… go test ./test/cloud/conformance/eci -v \
//	    -endpoint https://eci.cn-hangzhou.aliyuncs.com -region cn-hangzhou \
//	    -vswitch vsw-… -securitygroup sg-…
//
// What needs a clock, a shortage, a fault or a look at the bill needs a Lab, which
// the real service has not: it is left out and listed at the end, with its count.
package eci
