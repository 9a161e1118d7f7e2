package postgres

// SQL is the lookup's statement.
func (s *Store) SQL() string { return s.statement.sql }
