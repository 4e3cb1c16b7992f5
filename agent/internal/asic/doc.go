// Package asic turns the replies of one miner into a telemetry.Observation: it finds out what firmware
// answers, asks it with as few requests as that firmware allows, and gives each field its meaning and unit,
// by field name and model. Drivers in depth exist for stock Antminer, Whatsminer, Avalon, Braiins OS, LuxOS,
// VNish, Hiveon, MSKMiner and SealMiner; a generic driver reads what any cgminer dialect has in common. It schedules nothing, stores nothing and
// writes to no miner; package poll and the probe command call it.
package asic
