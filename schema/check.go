package schema

func (s *SET) check() error {
	if s.Event == nil {
		return refusef(CodeEvents, "events", "want exactly one event, got none")
	}
	return s.Event.check()
}

func (e *Joiner) check() error    { return nil }
func (e *Mover) check() error     { return nil }
func (e *Leaver) check() error    { return nil }
func (e *Suspend) check() error   { return nil }
func (e *Resume) check() error    { return nil }
func (e *Heartbeat) check() error { return nil }
func (e *Roster) check() error    { return nil }
func (e *Approval) check() error  { return nil }
