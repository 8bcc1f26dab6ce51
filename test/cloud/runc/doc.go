// Package runc runs the containers of container groups with runc, the program
// that also runs those of Docker and containerd.
//
// A Runtime holds the files of all containers. A Sandbox is the machine of one
// group: a network of its own with nothing but a loopback device, the volumes,
// the files in /etc. A Process is one run of a container in it, with a root file
// system of its own, made from one of a few images that are all busybox.
//
// Everything ends with Close. What a process that was killed left behind, the
// next Runtime of the machine ends: containers are known by their cgroups, which
// bear the id of the process that made them.
package runc
