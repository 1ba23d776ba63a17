package alarms

// advice says what to do about an alarm, by its code. consumer/README.md has the long form.
var advice = map[string]string{
	"gap":                  "messages are missing and may hide a leaver: ask the producer's people whether its outbox is sent, and to send them again (`producer resend --from N --to M`); ask whoever runs the mid-point where they went",
	"fork":                 "the stream says two things: stop trusting it, call the producer's people on another line, keep both messages; see fork in the README",
	"stale":                "no valid heartbeat: look whether `producer run`, the mid-point and the way to it are up; what takes access away may be withheld meanwhile, so ask HR for leavers by hand",
	"cut-limit":            "more people are to lose access than the policy allows in an hour: `consumer holds list`; release it, or two operators discard it, before it happens by itself",
	"give-limit":           "more is to be given than the policy allows in an hour: `consumer holds list`, then release or discard",
	"cut-held":             "somebody must lose access and the bridge may not touch the account: disable it by hand now, then see the hold",
	"cut-failing":          "a cut does not succeed: disable the account by hand if it must be now, then look at the tenant and the cut credential",
	"give-failing":         "look at the last outcomes of this person on the ledger: an attribute, manager or group that the tenant refuses; put it right in HR, the policy or the tenant",
	"cut-undone":           "an account that was cut was found enabled and is disabled once more: find out in Entra's audit log who enabled it, or why the tenant did not keep its word",
	"credential-denied":    "look at the application's permissions, its certificate's expiry and its directory role; nothing else is needed",
	"internal":             "the bridge fails on one person: take access by hand if it must go, then read the log and report it; the work is tried again by itself",
	"clock":                "make the machine's clock right, then `consumer clock confirm --reason TEXT`",
	"policy-unchecked":     "the tenant did not answer for the policy's groups and protected accounts at start; it is asked again every minute",
	"policy-group":         "put the group or the protected account right in the tenant or the policy, and restart",
	"ledger-unpublished":   "look at the ledger's folder and the checkpoint copy: space, mount, permissions; nothing is lost, it is published as soon as it can be",
	"midpoint-unreachable": "look at the network, the proxy and the mid-point",
	"midpoint-refused":     "the mid-point does not let us in or is not what was promised: look at the credential and the stream under queue in consumer.yaml",
	"old-copy":             "disable leavers by hand, find the newest copy of the database and put it back; see \"An old database was put back\" in the README",
	"not-running":          "start `consumer run`; until then disable leavers by hand",
	"newer-version":        "install the newer program: what comes after that message gives nothing until then",
	"key-retired":          "a message was refused because its key was retired: it may be a leaver, so ask the producer's people what they sent; if they changed the key, `consumer trust add CARD --reason TEXT`, else treat the key as stolen",
	"generation":           "the producer began to number anew: ask its people whether it was restored, then `consumer trust generation CARD --reason TEXT`",
	"future":               "a message is dated ahead of our clock: compare both clocks; ours counts",
	"fast-forward":         "a trusted key jumped out of reach: treat it as stolen until the producer's people say otherwise",
	"engagement-jump":      "somebody's engagement number was raised too far: ask the producer's people whether it is right, then have it sent step by step",
	"content-refused":      "a message in its place says what may not be taken: have the producer's people say it again rightly; if it may be a leaver, cut by hand",
	"roster-broken":        "a roster does not agree with itself and is not believed: tell the producer's people; the next one says the whole truth again",
	"flood":                "somebody sends many messages that are not taken in: ask whoever runs the mid-point for the sender",
	"parked-full":          "no more messages are kept that might become valid: trust their key or have the sender stopped, then ask the producer for what is missing",
}

// Advice is what to do about an alarm of this code.
func Advice(code string) string {
	if s, ok := advice[code]; ok {
		return s
	}
	return "see `consumer status` and the README"
}

// Codes lists the codes that have advice.
func Codes() []string {
	list := make([]string, 0, len(advice))
	for code := range advice {
		list = append(list, code)
	}
	return list
}
