package sla

import "testing"

// BenchmarkDay judges one day of one miner from 24 signed hours.
func BenchmarkDay(b *testing.B) {
	in := input()
	in.Excuses = []Excuse{excuse(10, Maintenance, at(5, 12, 0), at(5, 13, 0), at(4, 0, 0))}
	p := mustRules(b, in).Plan(key(1))
	facts := always(fullMH).hours(november)[4*24 : 5*24]
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Day(DayOf(at(5, 0, 0)), facts); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMonth adds up the kept days of 5,000 miners and makes the statement.
func BenchmarkMonth(b *testing.B) {
	in, kept := fleet(b, 5000)
	r := mustRules(b, in)
	b.Run("rules", func(b *testing.B) {
		for b.Loop() {
			mustRules(b, in)
		}
	})
	var m MonthResult
	b.Run("month", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var err error
			if m, err = r.Month(kept); err != nil {
				b.Fatal(err)
			}
		}
	})
	var s *Statement
	b.Run("statement", func(b *testing.B) {
		for b.Loop() {
			var err error
			if s, err = r.NewStatement(&m, Issue{}); err != nil {
				b.Fatal(err)
			}
			s.Canonical()
		}
	})
	b.Run("parse", func(b *testing.B) {
		doc := s.Canonical()
		b.SetBytes(int64(len(doc)))
		for b.Loop() {
			if _, err := ParseStatement(doc); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// fleet is a month of 31 days of n miners with some excuses, and their kept days.
func fleet(tb testing.TB, n int) (RulesInput, []MinerDays) {
	tb.Helper()
	in := input()
	in.Month, in.AsOfMS = november+1, (november+1).ToMS()+73*hour
	in.Assignments = nil
	first := in.Month.FromMS()
	for i := range n {
		in.Assignments = append(in.Assignments, assign(i+1, i+1, november.FromMS(), 0))
	}
	for i := range int64(10) {
		in.Excuses = append(in.Excuses, excuse(20_000+int(i), Curtailment, first+3*i*day, first+3*i*day+2*hour, first+3*i*day))
		in.Excuses = append(in.Excuses, excuse(21_000+int(i), Maintenance, first+3*i*day+day, first+3*i*day+day+hour, first-day, minerN(1+int(i))))
	}
	facts := downFor(30*SlotsPerDay+100, 0).hours(in.Month)
	r := mustRules(tb, in)
	kept := make([]MinerDays, 0, n)
	for _, k := range r.Miners() {
		md := MinerDays{MinerKey: k}
		p := r.Plan(k)
		for d := range in.Month.Days() {
			res, err := p.Day(in.Month.FirstDay()+d, facts[d*24:(d+1)*24])
			if err != nil {
				tb.Fatal(err)
			}
			md.Days = append(md.Days, res.DaySums)
		}
		kept = append(kept, md)
	}
	return in, kept
}
