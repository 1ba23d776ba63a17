// Package plan says what must be done to a tenant so that one account agrees with what the facts and
// the enclave's policy want of it.
//
// It is pure: desired state, observed account, policy and the time go in; operations come out, each
// classed as giving or taking, in the order in which they are to be executed.
package plan
