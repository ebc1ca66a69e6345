/*
 * memory.h - memory that was freed goes back to the system.
 *
 * Any thread. malloc keeps what is freed for the next one who asks, which is right for a message
 * and wrong for what a load leaves behind.
 */
#ifndef MR_BASE_MEMORY_H
#define MR_BASE_MEMORY_H

/* What this thread has freed, as far as malloc can. Not for a path of messages: it takes
 * milliseconds. */
void mr_memory_give_back(void);

#endif
