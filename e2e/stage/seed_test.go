package stage_test

import _ "jmlbridge/e2e/seed" // the flag -seed, which `go test ./e2e/...` hands to every test binary
