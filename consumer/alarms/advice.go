package alarms

// advice says what to do about an alarm, by its code. consumer/README.md has the long form.
var advice = map[string]string{
	"gap":                  "messages are missing and may hide a leaver: ask the producer's people whether its outbox is sent, and to send them again (`producer resend --from N --to M`); ask whoever runs the mid-point where they went. What a key signed past its end (`trust revoke`, `trust retire`) is refused however often it is sent: there `producer roster` helps, over there",
	"fork":                 "the stream says two things: call the producer's people on another line, then rule (`consumer fork list`, `consumer fork choose`) or trust their next generation; see fork in the README",
	"branch-goes-on":       "a trusted key signs on where you ruled that the stream does not go: ask the producer's people on another line whether the message that the text names is theirs. If not, somebody else has the key: have them change it (`producer key switch`), trust the next one, then `consumer trust revoke KEY --from-seq N --reason TEXT`. If it is, the ruling was wrong: have them `producer recover --force`, then `consumer trust generation CARD --expect KEYID --reason TEXT`; see fork in the README",
	"stale":                "no valid heartbeat: look whether `producer run`, the mid-point and the way to it are up; what takes access away may be withheld meanwhile, so ask HR for leavers by hand",
	"cut-limit":            "more people are to lose access than the policy allows: `consumer holds list`; release it, or two operators discard it, before it happens by itself",
	"take-limit":           "more people are to lose roles than the policy allows: `consumer holds list`; release it, or two operators discard it, before it happens by itself",
	"cut-discarded":        "people keep access that facts take away, because two operators said so: ask HR, then `consumer holds restore`, or let it come back at its time",
	"policy-limit":         "a change of the policy takes groups from many: is the file right? If not, put it right and restart; else `consumer holds list`, then release, or discard (two operators)",
	"give-limit":           "more is to be given than the policy allows in an hour or a day: `consumer holds list`, then release or discard",
	"cut-held":             "somebody must lose access and the bridge may not touch the account: disable it by hand now, unless the text says that it is, then see the hold",
	"cut-failing":          "a cut does not succeed: disable the account by hand if it must be now, then look at the tenant and the cut credential",
	"give-failing":         "look at the last outcomes of this person on the ledger: an attribute, manager or group that the tenant refuses; put it right in HR, the policy or the tenant",
	"strip-failing":        "look at the last outcomes of this person on the ledger: a group that the tenant lets nobody take people out of, such as one that became dynamic, or a permission; take it by hand, or put the group right",
	"cut-undone":           "an account that was cut was found enabled and is disabled once more: find out in Entra's audit log who enabled it, or why the tenant did not keep its word",
	"credential-denied":    "look at the application's permissions, its certificate's expiry and its directory role; nothing else is needed",
	"internal":             "the bridge fails on one person: take access by hand if it must go, then read the log and report it; the work is tried again by itself",
	"clock":                "make the machine's clock right, then `consumer clock confirm --reason TEXT`",
	"policy-unchecked":     "the tenant did not answer for the policy's groups and protected accounts at start; it is asked again every minute",
	"policy-group":         "put the group or the protected account right in the tenant or the policy, and restart",
	"ledger-unpublished":   "look at the ledger's folder and the checkpoint copy: space, mount, permissions; where a key of the ledger lies in a key store, whether that answers (`consumer doctor`). The log says which. Nothing is lost, it is published as soon as it can be",
	"disk-low":             "make room where the database and the ledger lie: what gives waits until then, cuts go on; see \"A full disk\" in the README",
	"disk-full":            "make room now: only what takes access away is still recorded and done, out of the reserve. Ask what fills the volume; see \"A full disk\" in the README",
	"alarms-unwritten":     "make the folder of alarms.file, or name another place and restart; everything that stands is in status",
	"syslog-unreachable":   "look at the collector under alarms.syslog, its certificate and the way there; the alarms file has everything meanwhile",
	"key-store":            "`consumer doctor` says which key does not answer and why: the store, the way there, the credential. Nothing is lost, and what is already in goes on; until it answers ask HR for leavers and `consumer cut` them. Where it is the old key of a rotation and gone for good, take it out of keys.decryption and restart",
	"midpoint-unreachable": "look at the network, the proxy and the mid-point",
	"midpoint-refused":     "the mid-point does not let us in or is not what was promised, or a file under queue is gone or may be read by others: the log says which (could not fetch); look at the credential and the stream under queue in consumer.yaml",
	"old-copy":             "disable leavers by hand, find the newest copy of the database and put it back; see \"An old database was put back\" in the README",
	"not-running":          "start `consumer run`; until then disable leavers by hand",
	"only-observes":        "unless these are the first days, stop it and start `consumer run` without --observe; until then disable leavers by hand",
	"newer-version":        "install the newer program: what comes after that message gives nothing until then",
	"key-retired":          "a message was refused because its key was retired: it may be a leaver, so ask the producer's people what they sent; if they changed the key, `consumer trust add CARD --expect KEYID --reason TEXT`, else treat the key as stolen",
	"no-key":               "trust the producer's next key at once (`consumer trust add CARD --expect KEYID --reason TEXT`); where the producer began anew, accept that (`consumer trust generation CARD --expect KEYID --reason TEXT`). Until then ask HR for leavers and cut by hand. Where the producer is given up, `consumer cut` whoever of its people must go now: the others' access ends with their leases, and the alarm with the last of them, a day after anything was heard",
	"generation":           "the producer began to number anew: ask its people whether it was restored and has said again what the backup did not know, then `consumer trust generation CARD --expect KEYID --reason TEXT`",
	"future":               "a message is dated ahead of our clock: compare both clocks; ours counts, so where it is behind, a leaver is cut that much later: ask HR for leavers and cut by hand until it is right. What will not come true within reason is given up by `consumer parked drop`, and said again by its producer",
	"fast-forward":         "a trusted key jumped out of reach: treat it as stolen (`consumer trust revoke`) until the producer's people say otherwise; then `consumer parked drop` what it sent",
	"engagement-forgotten": "ask HR whether the person left, and if so `consumer cut SUBJECT --reason TEXT` at once; have the producer's people follow \"After a restore\" in producer/README.md, which lets their next words reach what was forgotten",
	"engagement-jump":      "somebody's engagement number was raised too far: ask the producer's people whether it is right, then wait for the next roster, which brings it; if it is not, treat the key as stolen (`consumer trust revoke`)",
	"content-refused":      "a message in its place says what may not be taken: have the producer's people say it again rightly; if it may be a leaver, cut by hand",
	"roster-broken":        "a roster does not agree with itself and is not believed: tell the producer's people; the next one says the whole truth again",
	"gap-covered":          "messages had not come when a roster stood in for them: nothing is lost by it, and what comes of them yet gives nothing; where they were not parked or refused here, ask whoever runs the mid-point where they are. It ends by itself",
	"disowned":             "people have access by a word that an operator disowned: `consumer holds list`, then undo or release, person by person or all; the producer's next roster settles everybody whom it names",
	"unnamed":              "people have access whom the producer's last roster does not name: ask its people who they are, and cut by hand whoever left; the next roster that names them ends it",
	"unclaimed":            "accounts of a lost database: `consumer unclaimed list`; ask HR who is behind those that no roster names, `consumer cut` whoever left, and close what is nobody's",
	"midpoint-process":     "the process that speaks to the mid-point was replaced; nothing is lost. If it goes on, somebody at the mid-point may be doing it: ask whoever runs it, and see \"process\" in the log",
	"aside-unread":         "the log says why the dead letters cannot be read: has the credential the right to listen on the queue itself, and does a proxy or the mid-point treat QUEUE/$DeadLetterQueue otherwise? Until then ask the producer's people whether somebody left",
	"set-aside":            "find out why they were late: was the consumer down for longer than the queue's time to live, or did it fail to settle? Look for leavers that were cut late",
	"roster-contradicts":   "the producer's roster has people as live who left by its own word: they stay out. Ask about these subjects (the log has all of them, as `roster contradicts a leaver`), and whether it was restored from a backup; who comes back needs a new engagement",
	"delete-limit":         "more accounts are to be deleted in a day than the policy allows: `consumer holds list`, then release or discard; nothing is deleted meanwhile",
	"lease-ending":         "nothing is heard of people with access, and their leases end: look at the producer, its rosters and the mid-point; `consumer lease extend --all --for 3d --reason TEXT` puts it off",
	"flood":                "many messages come that are not taken in, by the code that is the key: ask whoever runs the mid-point for the sender; of replay, first the producer's people whether they sent again (`producer resend`)",
	"parked":               "`consumer parked list` names the key: ask the producer's people whether it is theirs. A new signing key of theirs: `consumer trust add CARD --expect KEYID --reason TEXT`; sealed to a key that is gone here: have it sent again; nobody's: `consumer parked drop`",
	"parked-full":          "no more messages are kept that might become valid: `consumer parked list`; trust their key, or have the sender stopped and `consumer parked drop` what is nobody's; then ask the producer for what is missing",
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
