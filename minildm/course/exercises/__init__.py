"""The checks that turn a student's cell green, a file a lesson: `exercises.check_kl(my_kl)`.

A check compares the answer with the package or with exact maths (see `compare`). It knows the right answer
and the likely wrong ones, and says nothing about how to write the function. Each lesson calls a check right
under its stub, and the same call is the graded test.
"""

from minildm.course.exercises.lesson_00 import *  # noqa: F403
from minildm.course.exercises.lesson_01 import *  # noqa: F403
from minildm.course.exercises.lesson_02 import *  # noqa: F403
from minildm.course.exercises.lesson_03 import *  # noqa: F403
from minildm.course.exercises.lesson_04 import *  # noqa: F403
from minildm.course.exercises.lesson_05 import *  # noqa: F403
from minildm.course.exercises.lesson_06 import *  # noqa: F403
from minildm.course.exercises.lesson_07 import *  # noqa: F403
from minildm.course.exercises.lesson_08 import *  # noqa: F403
from minildm.course.exercises.lesson_09 import *  # noqa: F403
from minildm.course.exercises.lesson_10 import *  # noqa: F403
from minildm.course.exercises.lesson_14 import *  # noqa: F403
from minildm.course.exercises.lesson_15 import *  # noqa: F403
from minildm.course.exercises.lesson_16 import *  # noqa: F403
from minildm.course.exercises.lesson_A1 import *  # noqa: F403
