<?php

use Illuminate\Database\Migrations\Migration;
use Illuminate\Database\Schema\Blueprint;
use Illuminate\Support\Facades\Schema;

return new class extends Migration
{
    public function up(): void
    {
        // This one is for Sluice.
        Schema::create('webhook_events', function (Blueprint $table): void {
            $table->string('id')->primary();
            $table->timestamp('received_at')->index();
        });

        // The rest is what such an application has.
        Schema::create('whatsapp_accounts', function (Blueprint $table): void {
            $table->id();
            $table->string('session_id')->unique();
            $table->unsignedBigInteger('workspace_id');
            $table->string('phone_number')->nullable();
            $table->enum('status', ['qr_scanning', 'authenticated', 'connected', 'disconnected', 'failed', 'pending']);
            $table->string('provider_type')->default('webjs');
            $table->string('assigned_instance_url')->nullable();
            $table->text('qr_code')->nullable();
            $table->softDeletes();
            $table->unique(['phone_number', 'workspace_id', 'status']);
        });
        Schema::create('messages', function (Blueprint $table): void {
            $table->id();
            $table->string('session_id');
            $table->string('event');
            $table->string('message_id')->index();
            $table->text('body');
            $table->string('status')->nullable();
            $table->timestamp('at');
        });
        Schema::create('jobs', function (Blueprint $table): void {
            $table->id();
            $table->string('queue')->index();
            $table->longText('payload');
            $table->unsignedTinyInteger('attempts');
            $table->unsignedInteger('reserved_at')->nullable();
            $table->unsignedInteger('available_at');
            $table->unsignedInteger('created_at');
        });
        Schema::create('failed_jobs', function (Blueprint $table): void {
            $table->id();
            $table->string('uuid')->unique();
            $table->text('connection');
            $table->text('queue');
            $table->longText('payload');
            $table->longText('exception');
            $table->timestamp('failed_at')->useCurrent();
        });
    }
};
