"""Grade submitted notebooks: answers by their grade ids, each in a process of its own.

    minildm grade SUBMISSIONS --out grades      # feedback per student, CSV files, Gradescope's JSON

No lesson is executed. `lessons` knows what is asked, `submissions` finds the answers, `slices` what
of a notebook an answer needs, `sandbox` runs it with limits, `rules` says what an answer may not
do, `reports` writes the marks down.
"""
