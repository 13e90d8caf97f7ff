"""The parts that every suite uses: workload, processes, rounds, records and tables."""
