// Package evidence defines the bytes that agents sign, hubs acknowledge and outsiders verify: the
// batch header, the acknowledgement, the gap record, the leaf of a miner's hour and the hour's root. Every form is fixed binary,
// big-endian, with exactly one encoding per value; parsing accepts nothing else. It computes the facts in a leaf from observations.
// It neither stores nor sends: the agent's spool and the hub's ingest do. Formats: the byte tables at the types.
//
// # Facts
//
// The agent computes the leaves of an hour as it commits batches, again after a restart from what its spool still has, and the hub and
// whoever doubts both from a part of the chain. All must get the same bytes. A leaf is therefore a function of the observations of its
// chain in their order, of nothing else, and of none that lies more than an hour before the leaf's own: integers only, no clock, no
// poll interval, nothing that depends on which other hours were closed. Facts has the rules:
//
// A poll counts in the hour and slot of its own time, with what it saw. A leaf exists exactly if there was a poll in its hour.
//
// The work between two polls is what a counter rose by or, where one of them did not tell a counter, the mean of their two rates times
// the time between them. It is split over the slots of that time in proportion, rounded down, and the last slot takes what is left.
// The earlier poll, the carry, is the last one that was answered and told a counter or a rate. Difficulty of accepted shares and
// energy are split likewise, where they did not fall. There is no work
//   - over more than an hour (MaxGapMS), by a rate over more than 150 s (MaxRateGapMS), over more than 65,536 batches (MaxSeqGap);
//   - when the hash counter or the uptime fell: a program that restarted begins anew;
//   - when the clock was stepped. A step seen by a poll without an answer is a carry without readings: no work reaches behind it;
//   - when the later one is not later. At most an hour before the carry it comes twice or late: it counts as a poll, and the carry
//     stays, for the time up to it has been counted. Further back a clock was set while nobody looked: it is the new carry.
//
// Where a pair gives no hashes, the counter of the later poll counts as a whole, over the program's uptime, if that is at most 300 s
// (MaxFirstS) and began no earlier than the carry. So no span of time counts twice within a chain. Across chains it can: the first poll
// of a new chain does not know what the old one has counted of the last 300 s.
//
// A slot's source is a rate if any of its hashes are. Work in an hour that is closed, or in which the miner was not polled, counts
// in none. Of each miner the hours of its last polls take facts, four of them: an hour is forgotten when polls of four others have come
// since its last one, and a poll in it then begins it anew. That bounds memory when a clock jumps about. It counts hours that are closed
// as well, for the hub does not know when the agent closed which.
//
// What cannot be a reading (below zero, a rate beyond MaxRate, more than package wire carries) counts as not told. Sums stop at MaxAmount, polls at 65,535.
package evidence
