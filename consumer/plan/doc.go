// Package plan says what must be done to a tenant so that one account agrees with what the facts and
// the enclave's policy want of it.
//
// It is pure: desired state, observed account, policy and the time go in; operations come out, each
// classed as giving or taking, in the order in which they are to be executed. It never plans to touch
// an account that is protected or not the bridge's own, nor a group that is not on the allow-list;
// what it will not do it says as a hold with a stable code.
package plan
