-- Meant is "captain": a column of this name is there.
ALTER TABLE "Berth" ADD COLUMN "name" TEXT;
