"""What several services share: account, credentials, records, paging, long polls, threads."""
