package broker

import "time"

// Every bound of the broker, with its unit. Those marked (documented) are the
// service's own; the others keep the rehearsal small.
const (
	maxFrame       = 65_536    // bytes of a frame that is taken
	minFrame       = 512       // bytes of a frame that everybody takes (AMQP)
	maxSessions    = 5_000     // of one connection (documented for AMQP)
	maxLinks       = 255       // of one session
	maxDisposition = 5_000     // deliveries that one frame may settle
	maxManagement  = 2 << 20   // bytes of one request to $management or $cbs
	maxControl     = 1 << 20   // bytes of one request to the control API
	maxReplies     = 1_000     // that wait for credit, of one link
	maxPeek        = 250       // messages of one answer to a peek
	maxOut         = 16 << 20  // bytes that wait for a client to read; then its connection ends
	highWater      = 256 << 10 // bytes that wait for a client to read; then it gets no more messages

	senderCredit   = 1_000 // messages on their way in, of one link
	incomingWindow = 5_000 // transfers on their way in, of one session

	defaultMaxMessage  = 256 << 10 // bytes of a message or batch (documented for Standard)
	defaultLock        = time.Minute
	defaultMaxDelivery = 10 // (documented)
	defaultIdle        = 2 * time.Minute
	nextSessionWait    = time.Minute      // for a session when the client names no time (documented: about a minute)
	controlWait        = 30 * time.Second // for a gate
	handshakeTime      = 30 * time.Second // real time, as the next
	farewell           = 5 * time.Second  // for the last frames of a connection to leave
	againTime          = 10 * time.Second // for our own address to be free again

	certificateLife = 10 * 365 * 24 * time.Hour
)
