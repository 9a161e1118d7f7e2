package schema

// WithIndexes returns the catalog as if every column had an index, so that what
// else is wrong can be told where the one on the token is missing.
func WithIndexes(c Catalog) Catalog {
	out := c
	out.Tables = make([]Table, len(c.Tables))
	for i, t := range c.Tables {
		indexes := append([]Index(nil), t.Indexes...)
		for _, column := range t.Columns {
			if _, ok := t.index(column.Name); !ok {
				indexes = append(indexes, Index{Name: Missing, Column: column.Name})
			}
		}
		t.Indexes = indexes
		out.Tables[i] = t
	}
	return out
}

// Missing is the name of the indexes that WithIndexes adds.
const Missing = "(none)"
