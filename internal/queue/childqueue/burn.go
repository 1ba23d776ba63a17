package childqueue

import "time"

// What an honest child may take. A message costs it 50 to 300 µs, and its octets pass TLS, a decoder and a pipe; the slowest
// machine that we think of takes 20 times as much for all of that.
const (
	perResult = 10 * time.Millisecond
	perOctet  = 50 * time.Nanosecond
	burnTime  = time.Minute // a window's length
	burnLimit = 15 * time.Second
)

// burning is how much a child may burn within a window where cores processors' time may be taken; 0: as many as there are. Where a
// container is held to less than one, a third of what it lets the child take: no more can be taken to start, which has openTime.
func burning(cores float64) time.Duration {
	if cores == 0 {
		return burnLimit
	}
	return min(burnLimit, time.Duration(cores*float64(burnTime)/3))
}

// sample is what a child had taken and brought at one moment.
type sample struct {
	at      time.Time
	cpu     time.Duration // zero: not known
	results uint64        // messages published, fetched or settled; a failure is none
	octets  uint64        // of the bodies of those published or fetched
}

// burnt is the processor's time that was taken from one sample to a later one beyond what the results between them may have
// cost. So a few results excuse little: a link that spins is seen beside heartbeats that pass, and beside whatever a
// mid-point sends to hide it, short of a load that is worth a core.
func burnt(from, to sample) time.Duration {
	if from.cpu == 0 || to.cpu == 0 {
		return 0
	}
	return to.cpu - from.cpu - time.Duration(to.results-from.results)*perResult - time.Duration(to.octets-from.octets)*perOctet
}

// window holds the samples of the last burnTime, the oldest first.
type window []sample

// slide adds a sample and returns the first one within the window, which may be the same.
func (w *window) slide(now sample) sample {
	for len(*w) > 0 && ((*w)[0].cpu == 0 || now.at.Sub((*w)[0].at) > burnTime) {
		*w = (*w)[1:]
	}
	*w = append(*w, now)
	return (*w)[0]
}
