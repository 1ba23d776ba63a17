package broker

import "math/rand/v2"

// Mishaps are the faults of an honest service and an unsound way to it, by chance that a seed repeats: it is busy, links,
// sessions and connections end, and answers are lost. Whoever tries again gets everything across: nothing is altered,
// repeated, or undone that was confirmed. Each strikes once, the first of them the first connection and the others within a
// few dozen messages.
func Mishaps(seed uint64) []Fault {
	rnd := rand.New(rand.NewPCG(seed, 0))
	some := func(list ...Fault) Fault {
		f := list[rnd.IntN(len(list))]
		f.Count = 1
		return f
	}
	// What an answer says or does in place of "done", whether it was done or not.
	spoiled := func(on Point, within int, more ...Fault) Fault {
		f := some(append(more, Fault{Kind: Error}, Fault{Kind: Reset}, Fault{Kind: End}, Fault{Kind: CloseConn})...)
		f.On, f.Skip, f.Applied = on, rnd.IntN(within), rnd.IntN(2) == 0
		return f
	}
	detach := Fault{Kind: Detach}
	wedge := Fault{Kind: Detach, Condition: string(condBusy)} // a client takes such a link for a living one
	list := []Fault{
		some(Fault{On: OnDial, Kind: Reset}, Fault{On: OnOpen, Kind: Reset}, Fault{On: OnToken, Kind: Reset}, Fault{On: OnToken, Kind: Error},
			Fault{On: OnAttach, Kind: Reset}, Fault{On: OnAttach, Kind: Error}, Fault{On: OnAttach, Kind: CloseConn}),
		spoiled(OnSend, 1, detach, wedge), spoiled(OnSend, 4, detach, wedge),
		spoiled(OnManage, 4), // detached, it would hold the client for as long as that is ready to wait
	}
	for range 2 {
		list = append(list, spoiled(OnSettle, 40, detach, wedge, Fault{Kind: Silence}))
		lost := some(Fault{Kind: Reset}, Fault{Kind: End}, Fault{Kind: CloseConn}, detach, wedge)
		lost.On, lost.Skip = OnDeliver, rnd.IntN(40)
		list = append(list, lost)
	}
	late := some(Fault{On: OnDial, Kind: Reset}, Fault{On: OnAttach, Kind: Error}, Fault{On: OnToken, Kind: CloseConn})
	late.Skip = 2 + rnd.IntN(4)
	return append(list, late)
}
