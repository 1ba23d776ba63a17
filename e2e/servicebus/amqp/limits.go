package amqp

// Every bound of the decoder.
const (
	maxDepth = 32     // lists, maps, arrays and descriptors inside each other
	maxItems = 65_536 // elements of one list, map or array
	maxEmpty = 256    // elements of one array that take no byte on the wire

	headerSize = 8 // bytes of a frame before its body
)
