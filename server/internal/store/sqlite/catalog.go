package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/sessiond/sessiond/server/internal/store/schema"
)

// queryer is a database, a connection of it or a transaction.
type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// readCatalog reads the tables of the main database.
func readCatalog(ctx context.Context, db queryer) (schema.Catalog, error) {
	c := schema.Catalog{CreateIndex: "CREATE UNIQUE INDEX session_token_idx"}
	err := each(ctx, db, `SELECT name, type FROM pragma_table_list
		WHERE schema = 'main' AND type <> 'shadow' AND name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY name`, nil,
		func(scan func(...any) error) error {
			t := schema.Table{Visible: true, Readable: true}
			if err := scan(&t.Name, &t.Kind); err != nil {
				return err
			}
			switch t.Kind {
			case "table":
				t.Kind = ""
			case "virtual":
				t.Kind = "virtual table"
			}
			c.Tables = append(c.Tables, t)
			return nil
		})
	if err != nil {
		return c, err
	}
	for i := range c.Tables {
		if c.Tables[i].Kind != "" {
			continue // a view may be broken; none is used
		}
		if err := readTable(ctx, db, &c.Tables[i]); err != nil {
			return c, err
		}
	}
	return c, nil
}

// readTable reads columns, indexes and foreign keys.
func readTable(ctx context.Context, db queryer, t *schema.Table) error {
	key := map[int]string{} // the primary key's columns, by position from 1
	rowid := false
	// hidden 1 is a virtual table's column; 2 and 3 are generated ones.
	err := each(ctx, db, `SELECT name, type, pk FROM pragma_table_xinfo(?1) WHERE hidden <> 1 ORDER BY cid`, []any{t.Name},
		func(scan func(...any) error) error {
			var c schema.Column
			var pk int
			if err := scan(&c.Name, &c.Type, &pk); err != nil {
				return err
			}
			c.Holds = declared(c.Type).holds()
			t.Columns = append(t.Columns, c)
			if pk > 0 {
				key[pk] = c.Name
				rowid = strings.EqualFold(c.Type, "INTEGER")
			}
			return nil
		})
	if err != nil {
		return err
	}
	if len(key) == 1 && rowid {
		t.Indexes = append(t.Indexes, schema.Index{Name: "rowid", Column: key[1], Unique: true})
	}
	err = each(ctx, db, `SELECT l.name, x.name, l."unique" AND (SELECT count(*) FROM pragma_index_info(l.name)) = 1
		FROM pragma_index_list(?1) AS l JOIN pragma_index_info(l.name) AS x
		WHERE x.seqno = 0 AND x.name IS NOT NULL AND NOT l.partial ORDER BY l.name`, []any{t.Name},
		func(scan func(...any) error) error {
			var i schema.Index
			if err := scan(&i.Name, &i.Column, &i.Unique); err != nil {
				return err
			}
			t.Indexes = append(t.Indexes, i)
			return nil
		})
	if err != nil {
		return err
	}
	// A key that names no column refers to the other table's primary key.
	return each(ctx, db, `SELECT f."from", f."table", coalesce(f."to", (SELECT p.name FROM pragma_table_info(f."table") AS p WHERE p.pk = 1), '')
		FROM pragma_foreign_key_list(?1) AS f
		WHERE (SELECT count(*) FROM pragma_foreign_key_list(?1) AS g WHERE g.id = f.id) = 1 ORDER BY f.id`, []any{t.Name},
		func(scan func(...any) error) error {
			var k schema.ForeignKey
			if err := scan(&k.Column, &k.RefTable, &k.RefColumn); err != nil {
				return err
			}
			t.ForeignKeys = append(t.ForeignKeys, k)
			return nil
		})
}

// each calls f for each row of query.
func each(ctx context.Context, db queryer, query string, args []any, f func(scan func(...any) error) error) error {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("catalog: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows.Scan); err != nil {
			return fmt.Errorf("catalog: %w", err)
		}
	}
	return rows.Err()
}
