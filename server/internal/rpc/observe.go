package rpc

import "github.com/sessiond/sessiond/server/internal/authority"

// Observer is shown the verdicts that are given. It must return at once.
type Observer interface {
	Offer(authority.Credential, *authority.Answer)
}

// Observe has an observer shown every verdict. Call it before the service serves.
func (s *Service) Observe(o Observer) { s.observer = o }

func (s *Service) observe(c authority.Credential, answer *authority.Answer) {
	if s.observer != nil {
		s.observer.Offer(c, answer)
	}
}
